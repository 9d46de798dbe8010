//! Contexts: memory the driver attaches to objects, one piece a type, and the callbacks that come with it.
//!
//! The memory is non-paged pool, so that the kernel's own checks (use after free, leaks) see it.

use std::ffi::c_void;

use crate::flat::*;
use machine_nt::exports::{ExAllocatePool2, ExFreePoolWithTag};
use machine_nt::ke::stack::driver_call;

use super::Attributes;
use crate::globals::DriverGlobals;
use crate::lock::{Ptr, Record};

type ObjectCallback = Option<unsafe extern "win64" fn(WDFOBJECT)>;

/// One context: its type (null for the nameless first one), its memory, its callbacks.
struct Context {
    kind: Ptr<c_void>,
    memory: Ptr<c_void>,
    tag: u32,
    cleanup: ObjectCallback,
    destroy: ObjectCallback,
}

/// Why a context was not added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AddError {
    /// The object has one of this type already, here.
    Exists(*mut c_void),
    /// No memory.
    NoMemory,
}

/// All contexts of an object. The first belongs to the attributes the object was created with.
#[derive(Default)]
pub(crate) struct Contexts(Record<Vec<Context>>);

fn allocate(globals: &DriverGlobals, size: usize) -> Option<*mut c_void> {
    // SAFETY: any size may be asked for; the tag is the driver's.
    let memory = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED as _, size as _, globals.tag()) };
    (!memory.is_null()).then_some(memory.cast())
}

impl Contexts {
    fn build(globals: &DriverGlobals, attributes: Option<&Attributes>) -> Option<Context> {
        let kind = attributes.map_or(std::ptr::null_mut(), Attributes::context_type);
        let size = attributes.map_or(0, Attributes::context_size);
        let memory = if kind.is_null() {
            std::ptr::null_mut()
        } else {
            allocate(globals, size.max(1))?
        };
        Some(Context {
            kind: Ptr(kind),
            memory: Ptr(memory),
            tag: globals.tag(),
            cleanup: attributes.and_then(Attributes::cleanup),
            destroy: attributes.and_then(Attributes::destroy),
        })
    }

    /// The context the object is created with, callbacks included.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES` without memory.
    pub(super) fn add_first(
        &self,
        globals: &DriverGlobals,
        attributes: Option<&Attributes>,
    ) -> Result<(), NTSTATUS> {
        let context = Self::build(globals, attributes).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        self.0.with(|all| all.insert(0, context));
        Ok(())
    }

    /// One more context (`FxObject::AddContext`).
    ///
    /// # Errors
    /// See [`AddError`].
    pub(super) fn add(
        &self,
        globals: &DriverGlobals,
        attributes: &Attributes,
    ) -> Result<*mut c_void, AddError> {
        let kind = attributes.context_type();
        if let Some(memory) = self.find(kind) {
            return Err(AddError::Exists(memory));
        }
        let context = Self::build(globals, Some(attributes)).ok_or(AddError::NoMemory)?;
        let memory = context.memory.0;
        self.0.with(|all| all.push(context));
        Ok(memory)
    }

    /// The context of a type.
    pub(crate) fn find(&self, kind: *mut c_void) -> Option<*mut c_void> {
        self.0.with(|all| {
            all.iter()
                .find(|context| context.kind.0 == kind)
                .map(|context| context.memory.0)
        })
    }

    /// Whether `memory` is one of the contexts.
    pub(super) fn owns(&self, memory: *mut c_void) -> bool {
        self.0.with(|all| {
            all.iter()
                .any(|context| context.memory.0 == memory && !memory.is_null())
        })
    }

    /// Forgets all callbacks: the driver never saw the object (`ClearEvtCallbacks`).
    pub(crate) fn clear_callbacks(&self) {
        self.0.with(|all| {
            for context in all {
                context.cleanup = None;
                context.destroy = None;
            }
        });
    }

    /// Calls each cleanup callback that was not called yet, in order.
    pub(super) fn call_cleanup(&self, handle: usize) {
        while let Some(callback) = self
            .0
            .with(|all| all.iter_mut().find_map(|context| context.cleanup.take()))
        {
            // SAFETY: the driver registered the callback for this object, whose handle is still valid.
            driver_call(|| unsafe { callback(handle as WDFOBJECT) });
        }
    }

    /// Calls, context by context, what cleanup callback is left and the destroy callback.
    pub(super) fn call_destroy(&self, handle: usize) {
        let next = || {
            self.0.with(|all| {
                all.iter_mut()
                    .find_map(|context| context.cleanup.take().or_else(|| context.destroy.take()))
            })
        };
        while let Some(callback) = next() {
            // SAFETY: the driver registered the callback for this object, whose handle is still valid.
            driver_call(|| unsafe { callback(handle as WDFOBJECT) });
        }
    }

    /// Frees the memory of all contexts.
    pub(super) fn free(&self) {
        for context in self.0.with(std::mem::take) {
            if !context.memory.0.is_null() {
                // SAFETY: the memory came from the pool with this tag and nothing refers to it any more.
                unsafe { ExFreePoolWithTag(context.memory.0.cast(), context.tag) };
            }
        }
    }
}
