//! How a transaction is cut into transfers, and what it is refused for.

use harness::Suite;
use machine::ddi;
use machine::nt_sys::*;

use crate::bench::{
    self, Buffer, DONE, LIST64, MORE, PACKET64, PAGE, Report, enabler_config, version3,
};

pub fn add(suite: Suite) -> Suite {
    suite
        .passes(
            "long_transactions_are_cut_at_the_maximum_length",
            maximum_length,
        )
        .passes(
            "long_transactions_are_cut_at_the_map_registers",
            map_registers,
        )
        .passes("a_list_holds_whole_mdls_of_a_chain", whole_mdls)
        .passes("a_packet_of_version_3_is_one_mdl_of_a_chain", packet_chain)
        .passes(
            "pages_are_counted_against_the_limit_of_elements",
            fragmented,
        )
        .passes("a_chain_too_short_for_the_length_is_refused", too_short)
        .passes(
            "a_second_packet_of_version_2_finds_the_device_busy",
            version_2_is_busy,
        )
        .passes(
            "packets_of_version_3_and_lists_run_side_by_side",
            side_by_side,
        )
        .passes("a_single_transfer_is_never_cut", single)
        .passes(
            "a_single_transfer_can_be_required_of_one_transaction",
            single_for_one,
        )
        .passes("transfer_info_of_version_2_counts_pages", transfer_info)
}

/// Runs a transaction to its end and returns the bytes of its transfers.
fn transfers(transaction: WDFDMATRANSACTION, buffer: &Buffer, length: usize) -> Vec<usize> {
    bench::programmed();
    bench::begin(transaction, buffer, length);
    loop {
        let result = bench::report(transaction, Report::Full);
        if result != MORE {
            assert_eq!(result, DONE);
            break;
        }
    }
    assert_eq!(bench::transferred(transaction), length);
    bench::release(transaction);
    bench::lengths()
}

/// Both kinds of bus masters, in both versions.
fn bus_masters(maximum: usize) -> [WDF_DMA_ENABLER_CONFIG; 4] {
    [
        enabler_config(PACKET64, maximum),
        enabler_config(LIST64, maximum),
        version3(PACKET64, maximum),
        version3(LIST64, maximum),
    ]
}

fn maximum_length() {
    bench::run(|device| {
        let long = Buffer::at(0x321, 5 * PAGE);
        for config in bus_masters(2 * PAGE) {
            let transaction = bench::transaction(bench::enabler(device, config));
            for (length, expected) in [
                (1, &[1][..]),
                (2 * PAGE, &[2 * PAGE]),
                (2 * PAGE + 1, &[2 * PAGE, 1]),
                (5 * PAGE, &[2 * PAGE, 2 * PAGE, PAGE]),
            ] {
                assert_eq!(transfers(transaction, &long, length), expected);
            }
        }
    });
}

fn map_registers() {
    bench::configured(
        Box::new(|config| config.hal.map_register_grant = Some(3)),
        |device| {
            let long = Buffer::at(0x321, 5 * PAGE);
            for config in bus_masters(1 << 20) {
                let transaction = bench::transaction(bench::enabler(device, config));
                assert_eq!(
                    transfers(transaction, &long, 5 * PAGE),
                    [2 * PAGE, 2 * PAGE, PAGE]
                );
            }
        },
    );
}

/// Two MDLs of a page that begin in the middle of one need four map registers, and there are three.
fn whole_mdls() {
    bench::configured(
        Box::new(|config| config.hal.map_register_grant = Some(3)),
        |device| {
            let halves = Buffer::chain(&[(PAGE / 2, PAGE), (PAGE / 2, PAGE)]);
            let wholes = Buffer::chain(&[(0, PAGE), (0, PAGE)]);
            for config in [enabler_config(LIST64, 1 << 20), version3(LIST64, 1 << 20)] {
                let transaction = bench::transaction(bench::enabler(device, config));
                assert_eq!(transfers(transaction, &halves, 2 * PAGE), [PAGE, PAGE]);
                assert_eq!(transfers(transaction, &wholes, 2 * PAGE), [2 * PAGE]);
            }
        },
    );
}

fn packet_chain() {
    bench::run(|device| {
        let chain = Buffer::chain(&[(16, 100), (0, PAGE), (300, 50)]);
        let three = bench::transaction(bench::enabler(device, version3(PACKET64, 1 << 20)));
        assert_eq!(transfers(three, &chain, PAGE + 150), [100, PAGE, 50]);
        // Version 2 does not take a chain.
        let two = bench::transaction(bench::enabler(device, enabler_config(PACKET64, 1 << 20)));
        assert_eq!(
            bench::initialize(two, &chain, 101),
            STATUS_INVALID_PARAMETER
        );
        assert_eq!(transfers(two, &chain, 100), [100]);
    });
}

/// Pages count, even if the HAL made one element of them.
fn fragmented() {
    bench::run(|device| {
        for config in [enabler_config(LIST64, 3 * PAGE), version3(LIST64, 3 * PAGE)] {
            let enabler = bench::enabler(device, config);
            unsafe { ddi!(WdfDmaEnablerSetMaximumScatterGatherElements(enabler, 2)) };
            let transaction = bench::transaction(enabler);
            for (offset, length, status) in [
                (0, 2 * PAGE, STATUS_SUCCESS),
                (0, 2 * PAGE + 1, STATUS_WDF_TOO_FRAGMENTED),
                (1, PAGE, STATUS_SUCCESS),
                (1, 2 * PAGE - 1, STATUS_SUCCESS),
                (1, 2 * PAGE, STATUS_WDF_TOO_FRAGMENTED),
            ] {
                let buffer = Buffer::at(offset, 3 * PAGE);
                // The refusal leaves the transaction released: it can be initialized again.
                assert_eq!(bench::initialize(transaction, &buffer, length), status);
                if nt_success(status) {
                    bench::release(transaction);
                }
            }
            // It is not cut shorter because of the limit: a later transfer is refused at the beginning, too.
            let buffer = Buffer::at(0, 6 * PAGE);
            assert_eq!(
                bench::initialize(transaction, &buffer, 4 * PAGE),
                STATUS_WDF_TOO_FRAGMENTED
            );
        }
    });
}

fn too_short() {
    bench::run(|device| {
        for config in [enabler_config(LIST64, 2 * PAGE), version3(LIST64, 2 * PAGE)] {
            let transaction = bench::transaction(bench::enabler(device, config));
            let buffer = Buffer::chain(&[(0, PAGE), (0, PAGE)]);
            assert_eq!(
                bench::initialize(transaction, &buffer, 4 * PAGE),
                STATUS_BUFFER_TOO_SMALL
            );
            assert_eq!(
                bench::initialize(transaction, &buffer, 2 * PAGE),
                STATUS_SUCCESS
            );
            bench::release(transaction);
        }
    });
}

/// One in flight for a device, whatever the enabler.
fn version_2_is_busy() {
    bench::run(|device| {
        let buffer = Buffer::at(0, PAGE);
        let transaction =
            || bench::transaction(bench::enabler(device, enabler_config(PACKET64, PAGE)));
        let (one, other) = (transaction(), transaction());
        bench::begin(one, &buffer, 100);
        assert_eq!(bench::initialize(other, &buffer, 100), STATUS_SUCCESS);
        assert_eq!(bench::execute(other), STATUS_WDF_BUSY);
        // What could not begin must be released before it is tried again.
        bench::release(other);
        assert_eq!(bench::report(one, Report::Full), DONE);
        assert_eq!(transfers(other, &buffer, 100), [100]);
        bench::release(one);
        // Lists are not serialized, nor do they keep a packet out.
        let list = bench::transaction(bench::enabler(device, enabler_config(LIST64, PAGE)));
        bench::begin(one, &buffer, 100);
        bench::begin(list, &buffer, 100);
        assert_eq!(bench::report(list, Report::Full), DONE);
        assert_eq!(bench::report(one, Report::Full), DONE);
    });
}

fn side_by_side() {
    bench::run(|device| {
        for config in [
            version3(PACKET64, PAGE),
            version3(LIST64, PAGE),
            enabler_config(LIST64, PAGE),
        ] {
            let enabler = bench::enabler(device, config);
            let all = [(); 3].map(|()| (bench::transaction(enabler), Buffer::at(0, PAGE)));
            for (transaction, buffer) in &all {
                bench::begin(*transaction, buffer, 100);
            }
            let programmed: Vec<usize> = bench::programmed()
                .iter()
                .map(|one| one.transaction)
                .collect();
            assert_eq!(programmed, all.each_ref().map(|(one, _)| *one as usize));
            // They end in any order.
            for (transaction, _) in all.iter().rev() {
                assert_eq!(bench::report(*transaction, Report::Full), DONE);
                bench::release(*transaction);
            }
        }
    });
}

/// The configuration of [`version3`], for single transfers.
fn required_single(profile: WDF_DMA_PROFILE, maximum: usize) -> WDF_DMA_ENABLER_CONFIG {
    WDF_DMA_ENABLER_CONFIG {
        Flags: _WDF_DMA_ENABLER_CONFIG_FLAGS::WDF_DMA_ENABLER_CONFIG_REQUIRE_SINGLE_TRANSFER
            as ULONG,
        ..version3(profile, maximum)
    }
}

fn single() {
    bench::configured(
        Box::new(|config| config.hal.map_register_grant = Some(4)),
        |device| {
            for profile in [PACKET64, LIST64] {
                let enabler = bench::enabler(device, required_single(profile, 6 * PAGE));
                let transaction = bench::transaction(enabler);
                for (offset, length, status) in [
                    (1, 4 * PAGE, STATUS_WDF_NOT_ENOUGH_MAP_REGISTERS),
                    (0, 4 * PAGE + 1, STATUS_WDF_NOT_ENOUGH_MAP_REGISTERS),
                    (0, 6 * PAGE + 1, STATUS_WDF_TOO_MANY_TRANSFERS),
                ] {
                    let buffer = Buffer::at(offset, 7 * PAGE);
                    assert_eq!(bench::initialize(transaction, &buffer, length), status);
                }
                // An enabler's transfers are a page shorter than the map registers reach, a single one is not.
                if profile == LIST64 {
                    let buffer = Buffer::at(0, 4 * PAGE);
                    assert_eq!(transfers(transaction, &buffer, 4 * PAGE), [4 * PAGE]);
                }
            }
            // A chain is more than one element: too many for a packet, and for a list with a limit of one.
            let chain = Buffer::chain(&[(0, 100), (200, 100)]);
            for profile in [PACKET64, LIST64] {
                let enabler = bench::enabler(device, required_single(profile, PAGE));
                unsafe { ddi!(WdfDmaEnablerSetMaximumScatterGatherElements(enabler, 1)) };
                let transaction = bench::transaction(enabler);
                assert_eq!(
                    bench::initialize(transaction, &chain, 200),
                    STATUS_WDF_TOO_FRAGMENTED
                );
                assert_eq!(transfers(transaction, &chain, 100), [100]);
            }
        },
    );
}

fn single_for_one() {
    bench::run(|device| {
        let buffer = Buffer::at(0, 3 * PAGE);
        let require = |transaction, on: bool| unsafe {
            ddi!(WdfDmaTransactionSetSingleTransferRequirement(
                transaction,
                on.into()
            ));
        };
        let transaction = bench::transaction(bench::enabler(device, version3(LIST64, 2 * PAGE)));
        require(transaction, true);
        assert_eq!(
            bench::initialize(transaction, &buffer, 3 * PAGE),
            STATUS_WDF_TOO_MANY_TRANSFERS
        );
        // The refusal has put the enabler's default back.
        assert_eq!(transfers(transaction, &buffer, 3 * PAGE), [2 * PAGE, PAGE]);
        // Too late once it is initialized.
        assert_eq!(
            bench::initialize(transaction, &buffer, 3 * PAGE),
            STATUS_SUCCESS
        );
        require(transaction, true);
        assert_eq!(bench::execute(transaction), STATUS_SUCCESS);
        assert_eq!(bench::report(transaction, Report::Full), MORE);
        assert_eq!(bench::report(transaction, Report::Full), DONE);
        bench::release(transaction);
        // An enabler that asks for it can be overruled.
        let enabler = bench::enabler(device, required_single(LIST64, 2 * PAGE));
        let transaction = bench::transaction(enabler);
        require(transaction, false);
        assert_eq!(transfers(transaction, &buffer, 3 * PAGE), [2 * PAGE, PAGE]);
        // Version 2 ignores it.
        let enabler = bench::enabler(device, enabler_config(LIST64, 2 * PAGE));
        let transaction = bench::transaction(enabler);
        require(transaction, true);
        assert_eq!(transfers(transaction, &buffer, 3 * PAGE), [2 * PAGE, PAGE]);
    });
}

fn transfer_info() {
    bench::run(|device| {
        let enabler = bench::enabler(device, enabler_config(LIST64, 8 * PAGE));
        let transaction = bench::transaction(enabler);
        for (parts, length, pages) in [
            (&[(0, PAGE)][..], PAGE, 1),
            (&[(1, PAGE)], PAGE, 2),
            (&[(1, 3 * PAGE)], PAGE - 1, 1),
            (&[(1, PAGE), (2, PAGE)], 2 * PAGE, 4),
        ] {
            let buffer = Buffer::chain(parts);
            assert_eq!(
                bench::initialize(transaction, &buffer, length),
                STATUS_SUCCESS
            );
            let (mut registers, mut elements) = (0, 0);
            unsafe {
                ddi!(WdfDmaTransactionGetTransferInfo(
                    transaction,
                    &mut registers,
                    &mut elements
                ));
            }
            assert_eq!((registers, elements), (pages, pages));
            bench::release(transaction);
        }
    });
}
