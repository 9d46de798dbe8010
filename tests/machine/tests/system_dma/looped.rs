//! Transfers that begin anew at their end, and those that end badly.

use std::ptr;

use DMA_COMPLETION_STATUS::{DmaCancelled, DmaComplete, DmaError};
use abi::fifo::{
    BUS_ERROR_AFTER, CAUSES, CONTROL, Causes, Control, RX_DATA, RX_THRESHOLD, pattern,
};
use harness::Suite;
use machine::ddi;
use machine::nt_sys::*;
use machine_nt::exports::{IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool};

use crate::bench::{self, DONE, FROM_DEVICE, PAGE, Report};
use crate::fifo::{
    self, Event, SYSTEM, begin, delay, events, events_of, filled, has_ended, prepare, wait_until,
};

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("a_looped_transfer_completes_every_round", looped)
        .passes("a_device_error_is_reported", device_error)
        .passes("a_transfer_that_cannot_be_mapped_is_an_error", not_mapped)
        .passes("without_a_callback_the_error_is_lost", lost)
}

unsafe extern "win64" fn round(
    transaction: WDFDMATRANSACTION,
    _device: WDFDEVICE,
    _context: WDFCONTEXT,
    _direction: WDF_DMA_DIRECTION,
    status: DMA_COMPLETION_STATUS::Type,
) {
    fifo::note(transaction, Event::Complete(status));
    if status != DmaComplete {
        fifo::report(transaction, Report::Final(0));
    }
}

/// R99: a common buffer with an MDL over it, mapped once, until it is stopped.
fn looped() {
    fifo::run(|fifo| {
        const LENGTH: usize = PAGE;
        let enabler = fifo.bare_enabler(SYSTEM, LENGTH);
        let config = WDF_DMA_SYSTEM_PROFILE_CONFIG {
            LoopedTransfer: 1,
            ..fifo.profile_config(false)
        };
        assert_eq!(
            fifo::configure(enabler, config, FROM_DEVICE),
            STATUS_SUCCESS
        );
        let mut common = ptr::null_mut();
        let mut alignment = WDF_COMMON_BUFFER_CONFIG {
            Size: bench::size::<WDF_COMMON_BUFFER_CONFIG>(),
            AlignmentRequirement: 63,
        };
        let status = unsafe {
            ddi!(WdfCommonBufferCreateWithConfig(
                enabler,
                LENGTH,
                &mut alignment,
                ptr::null_mut(),
                &mut common
            ))
        };
        assert_eq!(status, STATUS_SUCCESS);
        let address = unsafe { ddi!(WdfCommonBufferGetAlignedVirtualAddress(common)) };
        let mdl = unsafe { IoAllocateMdl(address, LENGTH as ULONG, 0, 0, ptr::null_mut()) };
        unsafe { MmBuildMdlForNonPagedPool(mdl) };
        let transaction = bench::transaction(enabler);
        let status = unsafe {
            ddi!(WdfDmaTransactionInitialize(
                transaction,
                Some(fifo::program),
                FROM_DEVICE,
                mdl,
                address,
                LENGTH
            ))
        };
        assert_eq!(status, STATUS_SUCCESS);
        unsafe {
            ddi!(WdfDmaTransactionSetDeviceAddressOffset(
                transaction,
                RX_DATA.offset() as ULONG
            ));
            ddi!(WdfDmaTransactionSetTransferCompleteCallback(
                transaction,
                Some(round),
                ptr::null_mut()
            ));
        }
        assert_eq!(bench::execute(transaction), STATUS_SUCCESS);
        fifo::set(RX_THRESHOLD.offset(), 16);
        let control = Control::RX_ENABLE | Control::RX_DMA | Control::PATTERN | Control::STREAM;
        fifo::set(CONTROL.offset(), control.bits());
        // Three rounds: a round takes the line as many bursts as there are in the buffer.
        delay(LENGTH as i64 / 16 * 3 + 20);
        let adapter = unsafe { ddi!(WdfDmaEnablerWdmGetDmaAdapter(enabler, FROM_DEVICE)) };
        let read_counter = unsafe { (*(*adapter).DmaOperations).ReadDmaCounter.unwrap() };
        let left = unsafe { read_counter(adapter) } as usize;
        assert!(
            left > LENGTH / 2 && left < LENGTH,
            "in the fourth round: {left:#x}"
        );
        let rounds = events_of(transaction);
        assert_eq!(rounds[0], Event::Program(LENGTH));
        assert_eq!(rounds[1..], [Event::Complete(DmaComplete); 3]);
        let last = unsafe { address.cast::<u8>().add(LENGTH - 1).read_volatile() };
        assert_eq!(last, pattern(0, 3 * LENGTH as u64 - 1));
        assert_eq!(fifo::get(CAUSES.offset()) & Causes::RX_OVERRUN.bits(), 0);
        unsafe { ddi!(WdfDmaTransactionStopSystemTransfer(transaction)) };
        wait_until(|| has_ended(transaction));
        let end = events_of(transaction);
        assert_eq!(
            end[end.len() - 2..],
            [
                Event::Complete(DmaCancelled),
                Event::Ended(true, STATUS_SUCCESS)
            ]
        );
        fifo::set(CONTROL.offset(), 0);
        bench::release(transaction);
        unsafe { IoFreeMdl(mdl) };
        bench::delete(common);
    });
}

/// R96, and the transfer can be made again.
fn device_error() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let write = bench::transaction(enabler);
        let out = filled(PAGE);
        fifo::set(BUS_ERROR_AFTER.offset(), 256);
        fifo::set(
            CONTROL.offset(),
            (Control::TX_ENABLE | Control::TX_DMA).bits(),
        );
        begin(write, &out, PAGE, true);
        wait_until(|| has_ended(write));
        assert_eq!(
            events_of(write),
            [
                Event::Program(PAGE),
                Event::Complete(DmaError),
                Event::Ended(true, STATUS_SUCCESS)
            ]
        );
        assert_eq!(bench::transferred(write), 0);
        bench::release(write);
        begin(write, &out, PAGE, true);
        wait_until(|| has_ended(write));
        assert_eq!(bench::transferred(write), PAGE);
        bench::release(write);
    });
}

/// A length that is no multiple of the width: MapTransferEx refuses it.
fn not_mapped() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let write = bench::transaction(enabler);
        let out = filled(PAGE);
        begin(write, &out, 6, true);
        assert_eq!(
            events_of(write),
            [
                Event::Complete(DmaError),
                Event::Ended(true, STATUS_SUCCESS)
            ],
            "before Execute has returned, which succeeds"
        );
        bench::release(write);
    });
}

fn lost() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let write = bench::transaction(enabler);
        let out = filled(PAGE);
        prepare(write, &out, 6, true);
        assert_eq!(bench::execute(write), STATUS_SUCCESS);
        delay(1000);
        assert_eq!(events(), []);
        // The transaction still executes, with nothing mapped.
        assert_eq!(fifo::report(write, Report::Final(0)), DONE);
        bench::release(write);
    });
}
