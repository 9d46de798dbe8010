//! Reserved channels, immediate execution, and what a transaction says of itself (R81 to R87).

use std::ptr;

use abi::fifo::{CONTROL, Control};
use harness::Suite;
use machine::ddi;
use machine::nt_sys::*;

use crate::bench::{self, Buffer, PAGE, TO_DEVICE};
use crate::fifo::{
    self, Event, begin, delay, events, events_of, filled, has_ended, initialize, wait_until,
};

pub fn add(suite: Suite) -> Suite {
    suite
        .passes("a_reserved_channel_is_kept_over_transactions", reserved)
        .passes("a_reservation_waits_for_the_channel", waits)
        .passes("few_reserved_registers_make_short_transfers", few)
        .passes(
            "immediate_execution_does_not_wait_for_the_channel",
            immediate,
        )
        .passes("a_transfer_context_is_had_while_it_is_used", context)
}

fn transmit() {
    fifo::set(
        CONTROL.offset(),
        (Control::TX_ENABLE | Control::TX_DMA).bits(),
    );
}

unsafe extern "win64" fn reserve(transaction: WDFDMATRANSACTION, context: PVOID) {
    assert_eq!(
        u32::from(machine_nt::exports::KeGetCurrentIrql()),
        DISPATCH_LEVEL
    );
    fifo::note(transaction, Event::Reserve);
    if let Some(buffer) = context.cast::<Buffer>().as_ref() {
        begin(transaction, buffer, PAGE, true);
    }
}

fn allocate(transaction: WDFDMATRANSACTION, count: ULONG, buffer: *const Buffer) -> NTSTATUS {
    unsafe {
        ddi!(WdfDmaTransactionAllocateResources(
            transaction,
            TO_DEVICE,
            count,
            Some(reserve),
            buffer.cast_mut().cast()
        ))
    }
}

fn free(transaction: WDFDMATRANSACTION) {
    unsafe { ddi!(WdfDmaTransactionFreeResources(transaction)) };
}

fn reserved() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let [mine, other] = [(); 2].map(|()| bench::transaction(enabler));
        let out = filled(PAGE);
        transmit();
        // As many map registers as there are, for what is initialized.
        initialize(mine, &out, PAGE, true);
        assert_eq!(allocate(mine, 0, &out), STATUS_SUCCESS);
        wait_until(|| has_ended(mine));
        assert_eq!(events_of(mine)[..2], [Event::Reserve, Event::Program(PAGE)]);
        bench::release(mine);
        // The channel is still this transaction's: it goes on at once, and others wait.
        let second = filled(PAGE);
        begin(other, &second, PAGE, true);
        delay(1000);
        assert_eq!(events(), []);
        begin(mine, &out, PAGE, true);
        wait_until(|| has_ended(mine));
        assert!(events_of(mine).contains(&Event::Program(PAGE)));
        bench::release(mine);
        free(mine);
        wait_until(|| has_ended(other));
        bench::release(other);
    });
}

fn waits() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let [first, second] = [(); 2].map(|()| bench::transaction(enabler));
        let out = filled(PAGE);
        begin(first, &out, PAGE, true);
        assert_eq!(allocate(second, 2, ptr::null()), STATUS_SUCCESS);
        assert_eq!(events_of(second), []);
        transmit();
        wait_until(|| has_ended(first));
        assert_eq!(events_of(second), [Event::Reserve]);
        free(second);
        bench::release(first);
    });
}

/// R85: one register for a whole page that begins in the middle.
fn few() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(4 * PAGE);
        let mine = bench::transaction(enabler);
        let out = Buffer::at(0x800, 2 * PAGE);
        assert_eq!(allocate(mine, 2, ptr::null()), STATUS_SUCCESS);
        assert_eq!(events_of(mine), [Event::Reserve]);
        transmit();
        begin(mine, &out, 2 * PAGE, true);
        wait_until(|| has_ended(mine));
        let programmed: Vec<usize> = events_of(mine)
            .into_iter()
            .filter_map(|event| match event {
                Event::Program(length) => Some(length),
                _ => None,
            })
            .collect();
        assert_eq!(programmed, [PAGE + 0x800, 0x800]);
        bench::release(mine);
        free(mine);
    });
}

fn immediate() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let [first, second] = [(); 2].map(|()| bench::transaction(enabler));
        let out = filled(PAGE);
        begin(first, &out, PAGE, true);
        let set_immediate = || unsafe { ddi!(WdfDmaTransactionSetImmediateExecution(second, 1)) };
        set_immediate();
        initialize(second, &out, PAGE, true);
        assert_eq!(bench::execute(second), STATUS_INSUFFICIENT_RESOURCES);
        bench::release(second);
        set_immediate();
        assert_eq!(
            allocate(second, 1, ptr::null()),
            STATUS_INSUFFICIENT_RESOURCES
        );
        bench::release(second);
        transmit();
        wait_until(|| has_ended(first));
        bench::release(first);
        events();
        set_immediate();
        begin(second, &out, PAGE, true);
        wait_until(|| has_ended(second));
        bench::release(second);
    });
}

fn context() {
    fifo::run(|fifo| {
        let enabler = fifo.duplex(PAGE);
        let write = bench::transaction(enabler);
        let get = || unsafe { ddi!(WdfDmaTransactionWdmGetTransferContext(write)) };
        assert!(get().is_null());
        let out = filled(PAGE);
        initialize(write, &out, PAGE, true);
        assert!(!get().is_null());
        let (mut registers, mut elements) = (7, 7);
        unsafe {
            ddi!(WdfDmaTransactionGetTransferInfo(
                write,
                &mut registers,
                &mut elements
            ))
        };
        // The published source asks the HAL with a structure whose version is not set.
        assert_eq!((registers, elements), (0, 0));
        bench::release(write);
        assert!(get().is_null());
    });
}
