//! Stopping and cancelling, in every window.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use DMA_COMPLETION_STATUS::{DmaCancelled, DmaComplete};
use abi::fifo::{CONTROL, Control};
use harness::{Suite, bug_check};
use machine::ddi;
use machine::nt_sys::*;
use machine::{Device, FifoFault, Machine};

use crate::bench::{self, Buffer, PAGE, Report, TO_DEVICE};
use crate::fifo::{
    self, Event, Fifo, Hooks, begin, delay, events, events_of, filled, has_ended, initialize,
    prepare, wait_until,
};

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("cancelled_while_it_waits_for_the_channel", queued)
        .passes(
            "stopped_while_it_waits_for_the_channel",
            stopped_in_the_queue,
        )
        .passes("stopped_while_it_is_mapped", mapped)
        .passes("stopped_while_it_runs", running)
        .passes("a_channel_may_stop_later", later)
        .stops(
            "completed_before_the_channel_has_stopped",
            bug_check(0xE6).p1(0x23),
            completed_too_soon,
        )
        .passes("stopped_between_two_transfers", between)
        .passes("stopped_after_the_last_transfer", after_the_last)
        .passes("stopped_by_the_program_routine", while_programming)
        .passes("a_stopped_transaction_can_be_used_again", again)
        .passes("a_programmed_transaction_cannot_be_cancelled", too_late)
        .stops(
            "a_transfer_is_stopped_twice",
            bug_check(0x10D).p1(8).p3(4),
            twice,
        )
        .stops(
            "a_transaction_is_stopped_when_it_has_ended",
            bug_check(0x1E).p1(0xffff_ffff_c000_0005),
            ended,
        )
        .passes("system_ddis_are_ignored_for_bus_masters", bus_master)
}

fn stop(transaction: WDFDMATRANSACTION) {
    unsafe { ddi!(WdfDmaTransactionStopSystemTransfer(transaction)) };
}

fn transmit() {
    fifo::set(
        CONTROL.offset(),
        (Control::TX_ENABLE | Control::TX_DMA).bits(),
    );
}

/// A transaction and its buffer, two pages of which are to be written.
fn writer(fifo: &Fifo) -> (WDFDMATRANSACTION, Buffer) {
    let enabler = fifo.duplex(PAGE);
    (bench::transaction(enabler), filled(2 * PAGE))
}

const CANCELLED: [Event; 2] = [
    Event::Complete(DmaCancelled),
    Event::Ended(true, STATUS_SUCCESS),
];

fn queued() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let [first, second] = [(); 2].map(|()| bench::transaction(enabler));
        let (a, b) = (filled(PAGE), filled(PAGE));
        begin(first, &a, PAGE, true);
        begin(second, &b, PAGE, true);
        assert!(bench::cancel(second));
        bench::release(second);
        events();
        transmit();
        wait_until(|| has_ended(first));
        assert!(events().iter().all(|(whose, _)| *whose == first as usize));
        bench::release(first);
    });
}

/// Stop does not take the request back: it is served, and told that it was cancelled.
fn stopped_in_the_queue() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let [first, second] = [(); 2].map(|()| bench::transaction(enabler));
        let (a, b) = (filled(PAGE), filled(PAGE));
        begin(first, &a, PAGE, true);
        begin(second, &b, PAGE, true);
        stop(second);
        transmit();
        wait_until(|| has_ended(second));
        assert_eq!(events_of(second), CANCELLED);
        bench::release(second);
        bench::release(first);
    });
}

fn mapped() {
    fifo::run(|fifo| {
        let (write, out) = writer(fifo);
        begin(write, &out, 2 * PAGE, true);
        delay(1000);
        assert_eq!(
            events_of(write),
            [Event::Program(PAGE)],
            "nothing asks for data"
        );
        stop(write);
        wait_until(|| has_ended(write));
        assert_eq!(events_of(write), CANCELLED);
        assert_eq!(bench::transferred(write), 0);
        bench::release(write);
    });
}

/// Ends a cancelled transfer with what the counter says was moved.
unsafe extern "win64" fn count(
    transaction: WDFDMATRANSACTION,
    _device: WDFDEVICE,
    enabler: WDFCONTEXT,
    _direction: WDF_DMA_DIRECTION,
    status: DMA_COMPLETION_STATUS::Type,
) {
    fifo::note(transaction, Event::Complete(status));
    let adapter = ddi!(WdfDmaEnablerWdmGetDmaAdapter(enabler.cast(), TO_DEVICE));
    let left = (*(*adapter).DmaOperations).ReadDmaCounter.unwrap()(adapter) as usize;
    fifo::report(
        transaction,
        Report::Final(bench::current(transaction) - left),
    );
}

fn running() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let (write, out) = (bench::transaction(enabler), filled(PAGE));
        prepare(write, &out, PAGE, true);
        unsafe {
            ddi!(WdfDmaTransactionSetTransferCompleteCallback(
                write,
                Some(count),
                enabler.cast()
            ))
        };
        transmit();
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        delay(30);
        stop(write);
        wait_until(|| has_ended(write));
        let moved = bench::transferred(write);
        assert!(moved > 0 && moved < PAGE, "{moved:#x}");
        assert_eq!(events_of(write)[1..], CANCELLED);
        bench::release(write);
    });
}

/// Runs `test` on a machine whose controller takes 100 us to stop a channel.
fn slowly(test: fn(&Fifo)) {
    let user = |machine: &Machine| {
        let faults = machine.fifo_faults().expect("the device is the FIFO");
        faults.arm(FifoFault::SlowStop(100_000));
        machine.start().expect("the device starts");
        machine.shut_down();
    };
    let hooks = Hooks::default();
    fifo::on_machine(Device::FifoWithoutInterrupt, hooks, test, user);
}

/// It is reported when it has stopped, not when it is told to.
fn later() {
    slowly(|fifo| {
        let (write, out) = writer(fifo);
        begin(write, &out, 2 * PAGE, true);
        delay(10);
        stop(write);
        delay(50);
        assert!(!has_ended(write));
        wait_until(|| has_ended(write));
        assert_eq!(events_of(write)[1..], CANCELLED);
        bench::release(write);
    });
}

fn completed_too_soon() {
    slowly(|fifo| {
        let (write, out) = writer(fifo);
        begin(write, &out, PAGE, true);
        stop(write);
        fifo::report(write, Report::Final(0));
    });
}

/// Which transfer's completion stops the transaction before it reports.
static STOP_AT: AtomicUsize = AtomicUsize::new(usize::MAX);

unsafe extern "win64" fn stop_then_report(
    transaction: WDFDMATRANSACTION,
    _device: WDFDEVICE,
    _context: WDFCONTEXT,
    _direction: WDF_DMA_DIRECTION,
    status: DMA_COMPLETION_STATUS::Type,
) {
    fifo::note(transaction, Event::Complete(status));
    if bench::transferred(transaction) == STOP_AT.load(Relaxed) {
        stop(transaction);
    }
    fifo::report(transaction, Report::Full);
}

fn stopped_at(transferred: usize) -> impl FnOnce(&Fifo) -> Vec<Event> {
    move |fifo| {
        STOP_AT.store(transferred, Relaxed);
        let (write, out) = writer(fifo);
        prepare(write, &out, 2 * PAGE, true);
        unsafe {
            ddi!(WdfDmaTransactionSetTransferCompleteCallback(
                write,
                Some(stop_then_report),
                ptr::null_mut()
            ))
        };
        transmit();
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        wait_until(|| has_ended(write));
        delay(1000);
        let events = events_of(write);
        bench::release(write);
        events
    }
}

/// R98: more is left to do, so the call that reports the transfer says that the transaction was cancelled.
fn between() {
    fifo::run(|fifo| {
        assert_eq!(
            stopped_at(0)(fifo),
            [
                Event::Program(PAGE),
                Event::Complete(DmaComplete),
                Event::Ended(true, STATUS_CANCELLED)
            ]
        );
    });
}

fn after_the_last() {
    fifo::run(|fifo| {
        let events = stopped_at(PAGE)(fifo);
        assert_eq!(events.last(), Some(&Event::Ended(true, STATUS_SUCCESS)));
    });
}

unsafe extern "win64" fn stopping_program(
    transaction: WDFDMATRANSACTION,
    device: WDFDEVICE,
    context: WDFCONTEXT,
    direction: WDF_DMA_DIRECTION,
    list: PSCATTER_GATHER_LIST,
) -> BOOLEAN {
    fifo::program(transaction, device, context, direction, list);
    stop(transaction);
    0
}

fn while_programming() {
    fifo::run(|fifo| {
        let (write, out) = writer(fifo);
        let status = unsafe {
            ddi!(WdfDmaTransactionInitialize(
                write,
                Some(stopping_program),
                TO_DEVICE,
                out.mdl(),
                out.address(),
                PAGE
            ))
        };
        assert_eq!(status, STATUS_SUCCESS);
        unsafe {
            ddi!(WdfDmaTransactionSetTransferCompleteCallback(
                write,
                Some(fifo::completed),
                ptr::null_mut()
            ))
        };
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        wait_until(|| has_ended(write));
        assert_eq!(events_of(write)[1..], CANCELLED);
        bench::release(write);
    });
}

fn again() {
    fifo::run(|fifo| {
        let (write, out) = writer(fifo);
        begin(write, &out, PAGE, true);
        stop(write);
        wait_until(|| has_ended(write));
        bench::release(write);
        events();
        transmit();
        begin(write, &out, 2 * PAGE, true);
        wait_until(|| has_ended(write));
        assert_eq!(bench::transferred(write), 2 * PAGE);
        bench::release(write);
    });
}

fn too_late() {
    fifo::run(|fifo| {
        let (write, out) = writer(fifo);
        begin(write, &out, PAGE, true);
        assert!(!bench::cancel(write));
        stop(write);
        wait_until(|| has_ended(write));
        bench::release(write);
    });
}

fn twice() {
    fifo::run(|fifo| {
        let (write, out) = writer(fifo);
        prepare(write, &out, PAGE, true);
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        stop(write);
        stop(write);
    });
}

fn ended() {
    fifo::run(|fifo| {
        let (write, out) = writer(fifo);
        initialize(write, &out, PAGE, true);
        transmit();
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        wait_until(|| has_ended(write));
        stop(write);
    });
}

fn bus_master() {
    bench::run(|device| {
        let enabler = bench::enabler(device, bench::version3(bench::PACKET, PAGE));
        let transaction = bench::transaction(enabler);
        stop(transaction);
        unsafe {
            ddi!(WdfDmaTransactionSetDeviceAddressOffset(transaction, 4));
            ddi!(WdfDmaTransactionSetTransferCompleteCallback(
                transaction,
                Some(fifo::completed),
                ptr::null_mut()
            ));
            ddi!(WdfDmaTransactionSetChannelConfigurationCallback(
                transaction,
                None,
                ptr::null_mut()
            ));
        }
        let buffer = Buffer::at(0, PAGE);
        bench::begin(transaction, &buffer, PAGE);
        assert_eq!(bench::report(transaction, Report::Full), bench::DONE);
        bench::release(transaction);
    });
}
