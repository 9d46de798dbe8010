//! Handles: opaque, and refused with bug check 0x10D/5 when NULL, stale or of the wrong type.
//!
//! A handle names a slot of a table and the slot's generation, so that a handle kept too long is known as such even if
//! its slot serves another object. Looking a handle up neither switches nor changes the IRQL: interrupt service routines do it.

use std::sync::{Arc, Mutex, PoisonError};

use super::kind::downcast;
use super::{Kind, Object, Typed};
use crate::flat::*;
use crate::globals::DriverGlobals;
use crate::verifier;

/// Low bits that are zero in every handle, as in those of the real framework.
const ALIGNMENT_BITS: u32 = 4;
/// Where the generation begins.
const GENERATION_SHIFT: u32 = 32;
/// Generations count up to here and start again.
const GENERATION_MASK: usize = 0x3FFF_FFFF;

struct Slot {
    generation: usize,
    object: Option<Arc<dyn Object>>,
}

struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

static TABLE: Mutex<Table> = Mutex::new(Table {
    slots: Vec::new(),
    free: Vec::new(),
});

fn table<R>(work: impl FnOnce(&mut Table) -> R) -> R {
    work(&mut TABLE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn encode(index: usize, generation: usize) -> usize {
    generation << GENERATION_SHIFT | (index + 1) << ALIGNMENT_BITS
}

impl Table {
    /// Which slot a handle names.
    fn index(handle: usize) -> Option<usize> {
        let low = handle & ((1 << GENERATION_SHIFT) - 1);
        if low & ((1 << ALIGNMENT_BITS) - 1) != 0 {
            return None;
        }
        (low >> ALIGNMENT_BITS).checked_sub(1)
    }

    fn slot(&mut self, handle: usize) -> Option<(usize, &mut Slot)> {
        let index = Self::index(handle)?;
        let slot = self.slots.get_mut(index)?;
        (slot.generation == handle >> GENERATION_SHIFT).then_some((index, slot))
    }
}

/// A handle for `object`.
pub(super) fn create(object: Arc<dyn Object>) -> usize {
    table(|table| {
        let index = table.free.pop().unwrap_or_else(|| {
            table.slots.push(Slot {
                generation: 1,
                object: None,
            });
            table.slots.len() - 1
        });
        let slot = &mut table.slots[index];
        slot.object = Some(object);
        encode(index, slot.generation)
    })
}

/// Makes `handle` stale and gives its object back.
pub(super) fn close(handle: usize) -> Option<Arc<dyn Object>> {
    table(|table| {
        let (index, slot) = table.slot(handle)?;
        let object = slot.object.take();
        slot.generation = (slot.generation & GENERATION_MASK) + 1;
        table.free.push(index);
        object
    })
}

/// The object behind `handle`, if there is one.
pub(crate) fn find(handle: usize) -> Option<Arc<dyn Object>> {
    table(|table| table.slot(handle).and_then(|(_, slot)| slot.object.clone()))
}

/// Whether there was once an object behind `handle`, as far as its slot tells.
fn was_valid(handle: usize) -> bool {
    table(|table| {
        Table::index(handle)
            .and_then(|index| table.slots.get(index))
            .is_some_and(|slot| (1..slot.generation).contains(&(handle >> GENERATION_SHIFT)))
    })
}

/// Every object alive, for the dump of a bug check. None if the table is in use.
pub(crate) fn all() -> Option<Vec<Arc<dyn Object>>> {
    let table = TABLE.try_lock().ok()?;
    Some(
        table
            .slots
            .iter()
            .filter_map(|slot| slot.object.clone())
            .collect(),
    )
}

fn invalid(globals: &'static DriverGlobals, handle: usize, wanted: Kind) -> ! {
    let found = match find(handle) {
        Some(object) => format!("the handle is a {}", object.header().kind().name()),
        None if handle == 0 => "the handle is NULL".to_owned(),
        None if was_valid(handle) => format!(
            "the handle is stale: its object has been deleted{}",
            if wanted == Kind::Request {
                ", as a request is when it is completed; who completes one twice does this"
            } else {
                ""
            }
        ),
        None => "there has never been such a handle".to_owned(),
    };
    verifier::bug_check(
        globals,
        WDF_INVALID_HANDLE,
        handle,
        usize::from(wanted.code()),
        &format!("a {} was expected: {found}", wanted.name()),
    )
}

/// The object of type `T` behind `handle` (`FxObjectHandleGetPtr`).
///
/// Stops with 0x10D/5 (handle, wanted type) if there is none.
pub(crate) fn get<T: Typed>(globals: &'static DriverGlobals, handle: usize) -> Arc<T> {
    match find(handle).and_then(downcast::<T>) {
        Some(object) => object,
        None => invalid(globals, handle, T::KIND),
    }
}

/// The object of any type behind `handle`.
///
/// Stops with 0x10D/5 (handle, `FX_TYPE_OBJECT`) if there is none.
pub(crate) fn any(globals: &'static DriverGlobals, handle: usize) -> Arc<dyn Object> {
    match find(handle) {
        Some(object) => object,
        None => invalid(globals, handle, Kind::Object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_names_its_slot_and_generation() {
        let handle = encode(4, 9);
        assert_eq!(handle, 9 << 32 | 5 << 4);
        let mut table = Table {
            slots: (0..6)
                .map(|_| Slot {
                    generation: 9,
                    object: None,
                })
                .collect(),
            free: Vec::new(),
        };
        assert_eq!(table.slot(handle).map(|(index, _)| index), Some(4));
    }

    #[test]
    fn null_unaligned_stale_and_unknown_handles_are_refused() {
        let mut table = Table {
            slots: vec![Slot {
                generation: 2,
                object: None,
            }],
            free: Vec::new(),
        };
        for handle in [
            0,
            1 << 32 | 1 << 4,
            2 << 32 | 1 << 4 | 1,
            2 << 32 | 2 << 4,
            2 << 32,
        ] {
            assert!(table.slot(handle).is_none(), "{handle:#x}");
        }
    }
}
