//! Raising and lowering the IRQL.

use super::spinlock;
use crate::entry::{enter, verifier};
use crate::sched::{self, DISPATCH_LEVEL, HIGH_LEVEL, with};
use nt_sys::KIRQL;

/// KeGetCurrentIrql. Any IRQL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeGetCurrentIrql() -> KIRQL {
    sched::irql()
}

/// KfRaiseIrql, which KeRaiseIrql is. Bug check 0xC4, 0x30 (current, wanted) when that would lower it.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KfRaiseIrql(irql: KIRQL) -> KIRQL {
    let _inside = enter("KfRaiseIrql", HIGH_LEVEL);
    raise(irql)
}

/// KeRaiseIrqlToDpcLevel. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeRaiseIrqlToDpcLevel() -> KIRQL {
    let _inside = enter("KeRaiseIrqlToDpcLevel", DISPATCH_LEVEL);
    raise(DISPATCH_LEVEL)
}

/// KeLowerIrql. Bug check 0xC4, 0x31 (current, wanted) when that would raise it.
///
/// # Safety
/// None.
pub unsafe extern "win64" fn KeLowerIrql(irql: KIRQL) {
    let _inside = enter("KeLowerIrql", HIGH_LEVEL);
    lower(irql);
}

pub(crate) fn raise(irql: KIRQL) -> KIRQL {
    let current = sched::irql();
    if irql < current || irql > HIGH_LEVEL {
        verifier(
            [0x30, current.into(), irql.into(), 0],
            format!("KeRaiseIrql from {current} to {irql}"),
        );
    }
    sched::set_irql(irql)
}

pub(crate) fn lower(irql: KIRQL) {
    let current = sched::irql();
    let in_dpc = with(|k| k.here().active_dpc.is_some());
    if irql > current || (in_dpc && irql < DISPATCH_LEVEL) {
        verifier(
            [
                0x31,
                current.into(),
                irql.into(),
                u64::from(irql <= current),
            ],
            format!("KeLowerIrql from {current} to {irql}"),
        );
    }
    if irql < DISPATCH_LEVEL {
        spinlock::check_none_held(&format!("the IRQL is lowered to {irql}"));
    }
    sched::lower_irql(irql);
}
