//! Transfers that go well.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use DMA_COMPLETION_STATUS::DmaComplete;
use abi::fifo::controller::SET_BURST;
use abi::fifo::{
    CAUSES_ENABLE, CONTROL, Causes, Control, PATTERN_ERRORS, PATTERN_SEED, RX_DATA, pattern,
};
use harness::{Suite, bug_check};
use machine::ddi;
use machine::nt_sys::*;
use machine::{Device, FifoFault, Machine, Way};

use crate::bench::{self, Buffer, FROM_DEVICE, PAGE, Report, TO_DEVICE};
use crate::fifo::{
    self, Event, Fifo, Hooks, SYSTEM, begin, bytes, delay, events, events_of, filled, has_ended,
    initialize, loop_back, prepare, wait_until,
};

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("both_directions_at_once_by_callbacks", by_callbacks)
        .passes("both_directions_at_once_by_interrupts", by_interrupts)
        .stops(
            "completed_on_the_devices_word",
            bug_check(0xE6).p1(0x23),
            || on_the_devices_word(Some(Way::Receive)),
        )
        .passes("one_request_line_serves_both_directions", simplex)
        .passes("a_transaction_is_split", split)
        .passes("the_channel_is_configured_before_each_transfer", configured)
        .passes("a_transfer_that_is_not_wanted_is_not_mapped", not_wanted)
        .passes("the_address_offset_lasts_until_the_next_initialize", offset)
        .passes("a_buffer_is_named_by_an_offset", using_offset)
        .passes("a_chain_of_mdls_is_transferred", chain)
        .passes("a_second_transaction_waits_for_the_channel", waits)
        .passes("the_callback_waits_for_the_program_routine", deferred)
        .passes("a_single_transfer_is_checked", single)
}

/// Writes and reads back all of a buffer, on both channels at the same time.
fn copy(fifo: &Fifo, maximum: usize, length: usize) {
    let enabler = fifo.duplex(maximum);
    let [read, write] = [(); 2].map(|()| bench::transaction(enabler));
    let (out, back) = (filled(length), Buffer::at(0, length));
    loop_back();
    begin(read, &back, length, false);
    begin(write, &out, length, true);
    wait_until(|| has_ended(read) && has_ended(write));
    for transaction in [read, write] {
        assert_eq!(bench::transferred(transaction), length);
        bench::release(transaction);
    }
    assert_eq!(bytes(&back, length), bytes(&out, length));
}

fn by_callbacks() {
    fifo::run(|fifo| copy(fifo, 4 * PAGE, 3 * PAGE + 128));
}

static READ: AtomicPtr<WDFDMATRANSACTION__> = AtomicPtr::new(ptr::null_mut());
static WRITE: AtomicPtr<WDFDMATRANSACTION__> = AtomicPtr::new(ptr::null_mut());

/// The DPC of a device that interrupts: the transfers whose ends were acknowledged have ended.
fn finish(causes: Causes) {
    for (cause, transaction) in [(Causes::RX_DONE, &READ), (Causes::TX_DONE, &WRITE)] {
        if causes.contains(cause) {
            fifo::report(transaction.load(Relaxed), Report::Full);
        }
    }
}

fn by_interrupts() {
    on_the_devices_word(None);
}

/// A driver that does not ask the controller, but believes the device, which may interrupt too early.
fn on_the_devices_word(early: Option<Way>) {
    let hooks = Hooks {
        dpc: Some(finish),
        ..Hooks::default()
    };
    let user = move |machine: &Machine| {
        let faults = machine.fifo_faults().expect("the device is the FIFO");
        if let Some(way) = early {
            faults.arm(FifoFault::EarlyDone(way));
        }
        machine.start().expect("the device starts");
        machine.shut_down();
    };
    let test = |fifo: &Fifo| {
        const LENGTH: usize = 2 * PAGE;
        let enabler = fifo.duplex(PAGE);
        let [read, write] = [(); 2].map(|()| bench::transaction(enabler));
        READ.store(read, Relaxed);
        WRITE.store(write, Relaxed);
        let (out, back) = (filled(LENGTH), Buffer::at(0, LENGTH));
        loop_back();
        let ends = Causes::RX_DONE | Causes::TX_DONE;
        fifo::set(CAUSES_ENABLE.offset(), ends.bits());
        prepare(read, &back, LENGTH, false);
        prepare(write, &out, LENGTH, true);
        assert_eq!(bench::execute(read), STATUS_SUCCESS);
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        wait_until(|| has_ended(read) && has_ended(write));
        // The next transfer is programmed before the call that reported the last one has returned.
        assert_eq!(
            events_of(read),
            [
                Event::Program(PAGE),
                Event::Program(PAGE),
                Event::Ended(false, STATUS_MORE_PROCESSING_REQUIRED),
                Event::Ended(true, STATUS_SUCCESS),
            ]
        );
        assert_eq!(bytes(&back, LENGTH), bytes(&out, LENGTH));
        bench::release(read);
        bench::release(write);
    };
    fifo::on_machine(Device::Fifo, hooks, test, user);
}

/// The pattern generator and the checker, one direction after the other.
fn simplex() {
    fifo::with_device(Device::FifoSimplex, Hooks::default(), |fifo| {
        const LENGTH: usize = PAGE;
        let enabler = fifo.bare_enabler(SYSTEM, PAGE);
        assert_eq!(fifo.configure(enabler, false), STATUS_SUCCESS);
        let transaction = bench::transaction(enabler);
        let buffer = Buffer::at(0, LENGTH);
        fifo::set(PATTERN_SEED.offset(), 77);
        let control = Control::RX_ENABLE | Control::RX_DMA | Control::PATTERN;
        fifo::set(CONTROL.offset(), control.bits());
        begin(transaction, &buffer, LENGTH, false);
        wait_until(|| has_ended(transaction));
        bench::release(transaction);
        let expected: Vec<u8> = (0..LENGTH as u64).map(|at| pattern(77, at)).collect();
        assert_eq!(bytes(&buffer, LENGTH), expected);

        events();
        let control = Control::TX_ENABLE | Control::TX_DMA | Control::PATTERN;
        fifo::set(CONTROL.offset(), control.bits());
        begin(transaction, &buffer, LENGTH, true);
        wait_until(|| has_ended(transaction));
        bench::release(transaction);
        assert_eq!(fifo::get(PATTERN_ERRORS.offset()), 0);
        fifo::put(&buffer, 0, bytes(&buffer, 1)[0] ^ 1);
        fifo::set(PATTERN_SEED.offset(), 77);
        events();
        begin(transaction, &buffer, LENGTH, true);
        wait_until(|| has_ended(transaction));
        delay(100);
        bench::release(transaction);
        assert_eq!(fifo::get(PATTERN_ERRORS.offset()), 1);
    });
}

/// R100: more than the enabler's maximum is several transfers.
fn split() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let write = bench::transaction(enabler);
        let out = filled(2 * PAGE + 64);
        fifo::set(
            CONTROL.offset(),
            (Control::TX_ENABLE | Control::TX_DMA).bits(),
        );
        begin(write, &out, 2 * PAGE + 64, true);
        wait_until(|| has_ended(write));
        let more = Event::Ended(false, STATUS_MORE_PROCESSING_REQUIRED);
        assert_eq!(
            events_of(write),
            [
                Event::Program(PAGE),
                Event::Complete(DmaComplete),
                Event::Program(PAGE),
                more,
                Event::Complete(DmaComplete),
                Event::Program(64),
                more,
                Event::Complete(DmaComplete),
                Event::Ended(true, STATUS_SUCCESS),
            ],
            "each is programmed while its predecessor is reported"
        );
    });
}

static WANTED: AtomicUsize = AtomicUsize::new(1);

unsafe extern "win64" fn configure(
    transaction: WDFDMATRANSACTION,
    _device: WDFDEVICE,
    context: PVOID,
    _mdl: PMDL,
    offset: usize,
    length: usize,
) -> BOOLEAN {
    fifo::note(transaction, Event::Configure(offset, length));
    if WANTED.load(Relaxed) == 0 {
        fifo::report(transaction, Report::Final(0));
        return 0;
    }
    let adapter = ddi!(WdfDmaEnablerWdmGetDmaAdapter(context.cast(), TO_DEVICE));
    let routine = (*(*adapter).DmaOperations).ConfigureAdapterChannel.unwrap();
    let mut burst: ULONG = 16;
    let status = routine(adapter, SET_BURST, (&raw mut burst).cast());
    assert_eq!(status, STATUS_SUCCESS);
    assert_eq!(
        routine(adapter, 99, (&raw mut burst).cast()),
        STATUS_NOT_IMPLEMENTED
    );
    1
}

fn set_configure(transaction: WDFDMATRANSACTION, enabler: WDFDMAENABLER) {
    unsafe {
        ddi!(WdfDmaTransactionSetChannelConfigurationCallback(
            transaction,
            Some(configure),
            enabler.cast()
        ))
    };
}

/// R93, R94.
fn configured() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let write = bench::transaction(enabler);
        let out = filled(PAGE + 64);
        fifo::set(
            CONTROL.offset(),
            (Control::TX_ENABLE | Control::TX_DMA).bits(),
        );
        initialize(write, &out, PAGE + 64, true);
        set_configure(write, enabler);
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        wait_until(|| has_ended(write));
        assert_eq!(
            events_of(write),
            [
                Event::Configure(0, PAGE),
                Event::Program(PAGE),
                Event::Complete(DmaComplete),
                Event::Configure(PAGE, 64),
                Event::Program(64),
                Event::Ended(false, STATUS_MORE_PROCESSING_REQUIRED),
                Event::Complete(DmaComplete),
                Event::Ended(true, STATUS_SUCCESS),
            ]
        );
    });
}

fn not_wanted() {
    fifo::run(|fifo| {
        WANTED.store(0, Relaxed);
        let enabler = fifo.duplex(PAGE);
        let write = bench::transaction(enabler);
        let out = filled(PAGE);
        initialize(write, &out, PAGE, true);
        set_configure(write, enabler);
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        assert_eq!(
            events_of(write),
            [
                Event::Configure(0, PAGE),
                Event::Ended(true, STATUS_SUCCESS)
            ]
        );
        assert_eq!(bench::transferred(write), 0);
        bench::release(write);
    });
}

/// R92: without the offset, the identification register is read.
fn offset() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let read = bench::transaction(enabler);
        let buffer = Buffer::at(0, PAGE);
        let control = Control::RX_ENABLE | Control::RX_DMA | Control::PATTERN;
        fifo::set(CONTROL.offset(), control.bits());
        begin(read, &buffer, 64, false);
        wait_until(|| has_ended(read));
        bench::release(read);
        assert_eq!(bytes(&buffer, 1), [pattern(0, 0)]);
        let set_offset =
            |offset| unsafe { ddi!(WdfDmaTransactionSetDeviceAddressOffset(read, offset)) };
        set_offset(RX_DATA.offset() as ULONG);
        let status = unsafe {
            ddi!(WdfDmaTransactionInitialize(
                read,
                Some(fifo::program),
                FROM_DEVICE,
                buffer.mdl(),
                buffer.address(),
                64
            ))
        };
        assert_eq!(status, STATUS_SUCCESS);
        events();
        assert_eq!(bench::execute(read), STATUS_SUCCESS);
        wait_until(|| has_ended(read));
        bench::release(read);
        let words = bytes(&buffer, 64).chunks(4);
        for word in words {
            assert_eq!(word, abi::fifo::IDENTITY.to_le_bytes());
        }
    });
}

fn using_offset() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let write = bench::transaction(enabler);
        let out = Buffer::at(0, PAGE);
        for index in 0..PAGE {
            fifo::put(&out, index, pattern(0, index as u64));
        }
        fifo::set(PATTERN_SEED.offset(), 0x40);
        let control = Control::TX_ENABLE | Control::TX_DMA | Control::PATTERN;
        fifo::set(CONTROL.offset(), control.bits());
        let status = unsafe {
            ddi!(WdfDmaTransactionInitializeUsingOffset(
                write,
                Some(fifo::program),
                TO_DEVICE,
                out.mdl(),
                0x40,
                0x80
            ))
        };
        assert_eq!(status, STATUS_SUCCESS);
        unsafe {
            ddi!(WdfDmaTransactionSetDeviceAddressOffset(
                write,
                abi::fifo::TX_DATA.offset() as ULONG
            ));
            ddi!(WdfDmaTransactionSetTransferCompleteCallback(
                write,
                Some(fifo::completed),
                ptr::null_mut()
            ));
        }
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        wait_until(|| has_ended(write));
        delay(100);
        bench::release(write);
        assert_eq!(fifo::get(PATTERN_ERRORS.offset()), 0);
    });
}

fn chain() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(4 * PAGE);
        let [read, write] = [(); 2].map(|()| bench::transaction(enabler));
        let parts = [(0, 64), (128, PAGE), (4, 60)];
        let length: usize = parts.iter().map(|(_, length)| length).sum();
        let (out, back) = (filled(length), Buffer::chain(&parts));
        loop_back();
        begin(read, &back, length, false);
        begin(write, &out, length, true);
        wait_until(|| has_ended(read) && has_ended(write));
        assert_eq!(bytes(&back, 64), bytes(&out, 64));
        let last = unsafe { (*(*back.mdl()).Next).Next };
        let address = unsafe {
            (*last)
                .StartVa
                .cast::<u8>()
                .add((*last).ByteOffset as usize)
        };
        let end = unsafe { std::slice::from_raw_parts(address, 60) };
        assert_eq!(end, &bytes(&out, length)[64 + PAGE..]);
        bench::release(read);
        bench::release(write);
    });
}

fn waits() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let [first, second] = [(); 2].map(|()| bench::transaction(enabler));
        let (a, b) = (filled(PAGE), filled(PAGE));
        begin(first, &a, PAGE, true);
        begin(second, &b, PAGE, true);
        assert_eq!(events(), [(first as usize, Event::Program(PAGE))]);
        fifo::set(
            CONTROL.offset(),
            (Control::TX_ENABLE | Control::TX_DMA).bits(),
        );
        wait_until(|| has_ended(second));
        let order: Vec<usize> = events()
            .iter()
            .map(|(transaction, _)| *transaction)
            .collect();
        let (first, second) = (first as usize, second as usize);
        // Programmed before the first's DmaCompleted has returned: that is when the channel was freed.
        assert_eq!(order, [first, second, first, second, second]);
    });
}

unsafe extern "win64" fn slow_program(
    transaction: WDFDMATRANSACTION,
    device: WDFDEVICE,
    context: WDFCONTEXT,
    direction: WDF_DMA_DIRECTION,
    list: PSCATTER_GATHER_LIST,
) -> BOOLEAN {
    fifo::program(transaction, device, context, direction, list);
    // Another processor's DPC reports the end meanwhile.
    for _ in 0..200 {
        machine_nt::exports::KeStallExecutionProcessor(1);
    }
    fifo::note(transaction, Event::Reserve);
    1
}

fn deferred() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let write = bench::transaction(enabler);
        let out = filled(PAGE);
        fifo::set(
            CONTROL.offset(),
            (Control::TX_ENABLE | Control::TX_DMA).bits(),
        );
        let status = unsafe {
            ddi!(WdfDmaTransactionInitialize(
                write,
                Some(slow_program),
                TO_DEVICE,
                out.mdl(),
                out.address(),
                64
            ))
        };
        assert_eq!(status, STATUS_SUCCESS);
        unsafe {
            ddi!(WdfDmaTransactionSetDeviceAddressOffset(
                write,
                abi::fifo::TX_DATA.offset() as ULONG
            ));
            ddi!(WdfDmaTransactionSetTransferCompleteCallback(
                write,
                Some(fifo::completed),
                ptr::null_mut()
            ));
        }
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        wait_until(|| has_ended(write));
        assert_eq!(
            events_of(write),
            [
                Event::Program(64),
                // The end of EvtProgramDma.
                Event::Reserve,
                Event::Complete(DmaComplete),
                Event::Ended(true, STATUS_SUCCESS)
            ]
        );
        bench::release(write);
    });
}

fn single() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let write = bench::transaction(enabler);
        unsafe { ddi!(WdfDmaTransactionSetSingleTransferRequirement(write, 1)) };
        let out = filled(2 * PAGE);
        let initialize = |length| unsafe {
            ddi!(WdfDmaTransactionInitialize(
                write,
                Some(fifo::program),
                TO_DEVICE,
                out.mdl(),
                out.address(),
                length
            ))
        };
        assert_eq!(initialize(2 * PAGE), STATUS_WDF_TOO_MANY_TRANSFERS);
        unsafe { ddi!(WdfDmaTransactionSetSingleTransferRequirement(write, 1)) };
        assert_eq!(initialize(PAGE), STATUS_SUCCESS);
        bench::release(write);
    });
}
