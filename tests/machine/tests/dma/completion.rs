//! What is left after a transfer was reported: the arithmetic of the three completing calls.

use harness::{Suite, bug_check};
use machine::ddi;
use machine::nt_sys::*;

use crate::bench::{self, Buffer, DONE, MORE, PAGE, Report};
use Report::{Final, Full, Length};

/// Bytes of a transfer at most, and of the transaction.
const MAXIMUM: usize = 1000;
const TOTAL: usize = 2500;

/// Reports, each with what it returns; the transfers that were programmed, as (bytes before, bytes); the bytes in the end.
struct Row {
    reports: &'static [(Report, (bool, NTSTATUS))],
    transfers: &'static [(usize, usize)],
    moved: usize,
}

const ROWS: &[Row] = &[
    // All of it, in three transfers.
    Row {
        reports: &[(Full, MORE), (Full, MORE), (Full, DONE)],
        transfers: &[(0, 1000), (1000, 1000), (2000, 500)],
        moved: 2500,
    },
    // No bytes: the same transfer again.
    Row {
        reports: &[(Length(0), MORE), (Full, MORE), (Full, MORE), (Full, DONE)],
        transfers: &[(0, 1000), (0, 1000), (1000, 1000), (2000, 500)],
        moved: 2500,
    },
    // Too few: the next transfer begins where this one stopped.
    Row {
        reports: &[
            (Length(300), MORE),
            (Full, MORE),
            (Length(1000), MORE),
            (Length(200), DONE),
        ],
        transfers: &[(0, 1000), (300, 1000), (1300, 1000), (2300, 200)],
        moved: 2500,
    },
    // The last one is short: the rest is a transfer of its own.
    Row {
        reports: &[
            (Full, MORE),
            (Full, MORE),
            (Length(499), MORE),
            (Full, DONE),
        ],
        transfers: &[(0, 1000), (1000, 1000), (2000, 500), (2499, 1)],
        moved: 2500,
    },
    // Final: nothing follows, whatever is left.
    Row {
        reports: &[(Final(300), DONE)],
        transfers: &[(0, 1000)],
        moved: 300,
    },
    Row {
        reports: &[(Full, MORE), (Final(0), DONE)],
        transfers: &[(0, 1000), (1000, 1000)],
        moved: 1000,
    },
];

/// More bytes than were programmed: the transaction has failed.
const TOO_MANY: &[Row] = &[
    Row {
        reports: &[(Length(1001), (true, STATUS_INVALID_PARAMETER))],
        transfers: &[(0, 1000)],
        moved: 0,
    },
    Row {
        reports: &[(Final(1001), (true, STATUS_INVALID_PARAMETER))],
        transfers: &[(0, 1000)],
        moved: 0,
    },
    // An error may leave bytes transferred.
    Row {
        reports: &[
            (Full, MORE),
            (Full, MORE),
            (Length(501), (true, STATUS_INVALID_PARAMETER)),
        ],
        transfers: &[(0, 1000), (1000, 1000), (2000, 500)],
        moved: 2000,
    },
];

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("packets_of_version_2_are_counted", || {
            rows(bench::enabler_config(bench::PACKET64, MAXIMUM), ROWS);
        })
        .passes("packets_of_version_3_are_counted", || {
            rows(bench::version3(bench::PACKET64, MAXIMUM), ROWS);
        })
        .passes("lists_of_version_2_are_counted", || {
            rows(bench::enabler_config(bench::LIST64, MAXIMUM), ROWS);
        })
        .passes("lists_of_version_3_are_counted", || {
            rows(bench::version3(bench::LIST64, MAXIMUM), ROWS);
        })
        .passes("more_bytes_than_programmed_fail_a_list", || {
            rows(bench::version3(bench::LIST64, MAXIMUM), TOO_MANY);
        })
        .stops(
            "more_bytes_than_programmed_skip_the_flush_of_a_packet",
            bug_check(0xE6).p1(0x10),
            || rows(bench::version3(bench::PACKET64, MAXIMUM), TOO_MANY),
        )
        .passes(
            "a_smaller_maximum_length_is_taken_and_a_larger_ignored",
            a_smaller_maximum_length_is_taken_and_a_larger_ignored,
        )
        .stops(
            "maximum_length_after_the_end_follows_a_null_pointer",
            bug_check(0x1E).p1(0xffff_ffff_c000_0005),
            maximum_length_after_the_end_follows_a_null_pointer,
        )
        .passes(
            "a_partial_completion_may_fragment_the_rest",
            a_partial_completion_may_fragment_the_rest,
        )
        .passes(
            "a_single_transfer_cannot_end_short",
            a_single_transfer_cannot_end_short,
        )
}

/// Runs each row in a transaction of its own, and all of them once more in one that is used again.
fn rows(config: WDF_DMA_ENABLER_CONFIG, rows: &'static [Row]) {
    bench::run(move |device| {
        let enabler = bench::enabler(device, config);
        let again = bench::transaction(enabler);
        for row in rows {
            let once = bench::transaction(enabler);
            run(row, once);
            bench::delete(once);
            run(row, again);
        }
    });
}

fn run(row: &Row, transaction: WDFDMATRANSACTION) {
    let buffer = Buffer::at(0, PAGE);
    bench::begin(transaction, &buffer, TOTAL);
    let mut transfers = Vec::new();
    for &(report, expected) in row.reports {
        let programmed = bench::programmed();
        assert_eq!(programmed.len(), 1, "before {report:?}");
        let one = programmed[0];
        assert_eq!(one.irql, DISPATCH_LEVEL as KIRQL);
        assert_eq!(one.bytes, bench::current(transaction));
        transfers.push((one.before, one.bytes));
        assert_eq!(bench::report(transaction, report), expected, "{report:?}");
    }
    assert_eq!(bench::programmed(), []);
    assert_eq!(transfers, row.transfers);
    assert_eq!(bench::current(transaction), 0);
    assert_eq!(bench::transferred(transaction), row.moved);
    bench::release(transaction);
}

fn a_smaller_maximum_length_is_taken_and_a_larger_ignored() {
    bench::run(|device| {
        for profile in [bench::PACKET64, bench::LIST64] {
            let enabler = bench::enabler(device, bench::version3(profile, MAXIMUM));
            let transaction = bench::transaction(enabler);
            for (limit, first) in [(400, 400), (1000, 1000), (5000, 1000)] {
                let buffer = Buffer::at(0, PAGE);
                assert_eq!(
                    bench::initialize(transaction, &buffer, TOTAL),
                    STATUS_SUCCESS
                );
                unsafe { ddi!(WdfDmaTransactionSetMaximumLength(transaction, limit)) };
                assert_eq!(bench::execute(transaction), STATUS_SUCCESS);
                assert_eq!(bench::lengths(), [first]);
                assert_eq!(bench::report(transaction, Final(first)), DONE);
                // Release takes the limit back.
                bench::release(transaction);
            }
        }
    });
}

fn maximum_length_after_the_end_follows_a_null_pointer() {
    bench::run(|device| {
        let transaction =
            bench::transaction(bench::enabler(device, bench::version3(bench::LIST64, PAGE)));
        let buffer = Buffer::at(0, PAGE);
        bench::begin(transaction, &buffer, 100);
        assert_eq!(bench::report(transaction, Full), DONE);
        unsafe { ddi!(WdfDmaTransactionSetMaximumLength(transaction, 50)) };
    });
}

/// Two pages at their beginning are two elements; from the middle of a page they are three.
fn a_partial_completion_may_fragment_the_rest() {
    bench::run(|device| {
        let enabler = bench::enabler(device, bench::version3(bench::LIST64, 2 * PAGE));
        unsafe { ddi!(WdfDmaEnablerSetMaximumScatterGatherElements(enabler, 2)) };
        let transaction = bench::transaction(enabler);
        let buffer = Buffer::at(0, 4 * PAGE);
        bench::begin(transaction, &buffer, 4 * PAGE);
        assert_eq!(
            bench::report(transaction, Length(100)),
            (true, STATUS_WDF_TOO_FRAGMENTED)
        );
        assert_eq!(bench::transferred(transaction), 100);
        bench::release(transaction);
    });
}

fn a_single_transfer_cannot_end_short() {
    bench::run(|device| {
        for profile in [bench::PACKET64, bench::LIST64] {
            let config = WDF_DMA_ENABLER_CONFIG {
                Flags: _WDF_DMA_ENABLER_CONFIG_FLAGS::WDF_DMA_ENABLER_CONFIG_REQUIRE_SINGLE_TRANSFER
                    as ULONG,
                ..bench::version3(profile, PAGE)
            };
            let transaction = bench::transaction(bench::enabler(device, config));
            let short = (true, STATUS_WDF_TOO_MANY_TRANSFERS);
            for (report, expected) in [
                (Full, DONE),
                (Length(100), DONE),
                (Final(100), DONE),
                (Length(99), short),
                (Final(99), short),
            ] {
                let buffer = Buffer::at(0, PAGE);
                bench::begin(transaction, &buffer, 100);
                assert_eq!(bench::report(transaction, report), expected, "{report:?}");
                bench::release(transaction);
            }
        }
    });
}
