//! Framework objects: identity, reference counts, the tree of parents and children, contexts and disposal.
//!
//! An object is a Rust value behind an [`Arc`]; what the driver sees of it is an opaque [`handle`]. The reference count
//! the driver manipulates is the framework's own ([`Header::add_ref`]): when it falls to zero the object is destroyed,
//! its handle becomes stale and its contexts are freed, whatever clones of the `Arc` the framework still holds on its
//! stacks. Disposal follows `fxobjectstatemachine.cpp`: children before parents, cleanup callbacks as each object is
//! disposed, destroy callbacks when its last reference goes.

use std::any::Any;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::flat::*;

use crate::device::Device;
use crate::globals::DriverGlobals;
use crate::io::request::Request;
use crate::lock::SpinCell;
use crate::verifier;

mod api;
pub(crate) mod attributes;
pub(crate) mod context;
pub(crate) mod handle;
mod kind;
mod lifetime;

pub(crate) use api::*;
pub(crate) use attributes::Attributes;
pub(crate) use kind::{Kind, Typed};

use context::Contexts;

/// What every framework object is.
pub(crate) trait Object: Any + Send + Sync {
    /// Identity, references, tree and contexts.
    fn header(&self) -> &Header;

    /// Releases what the object holds, called once, after its children were disposed and before its cleanup callbacks.
    fn dispose(&self) {}

    /// Called when deletion begins, before anything is disposed: objects that must leave a list first do it here.
    fn deleting(&self) {}

    /// Called once when the last reference goes, after the destroy callbacks.
    fn destroyed(&self) {}

    /// The request whose buffer the object is, if it is one: references to it keep the request from being completed.
    fn irp_holder(&self) -> Option<&Request> {
        None
    }

    /// The lines of the object's dump, in the manner of `!wdfkd`.
    fn dump(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Set on objects the driver may not delete (`MarkNoDeleteDDI`).
const NO_DELETE: u32 = 1;
/// Disposal needs `PASSIVE_LEVEL` (`MarkPassiveDispose`).
const PASSIVE_DISPOSE: u32 = 2;
/// Callbacks run at `PASSIVE_LEVEL` (`MarkPassiveCallbacks`).
const PASSIVE_CALLBACKS: u32 = 4;
/// The object was disposed before it was deleted (`EarlyDispose`).
const EARLY_DISPOSED: u32 = 8;
/// Deletion was asked for.
const DELETE_CALLED: u32 = 16;

/// Where an object is in its life (`FxObjectState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Alive.
    Created,
    /// Children, then the object itself, are being disposed; it is not deleted yet.
    Disposing,
    /// Disposed, not deleted.
    Disposed,
    /// Deletion was asked for: children, then the object, are being disposed.
    DeletedDisposing,
    /// Waits for `PASSIVE_LEVEL` to be disposed.
    Deferred {
        /// Whether it is deleted after that.
        delete: bool,
    },
    /// Waits for its parent, which is being disposed.
    WaitingForParent,
    /// Disposed and deleted: lives on through references only.
    DeletedAndDisposed,
    /// Gone.
    Destroyed,
}

/// The part of an object that its lock protects.
pub(crate) struct Tree {
    state: State,
    parent: Option<Weak<dyn Object>>,
    children: Vec<Arc<dyn Object>>,
}

/// What all objects have in common.
pub(crate) struct Header {
    kind: Kind,
    globals: &'static DriverGlobals,
    handle: AtomicUsize,
    references: AtomicI32,
    flags: AtomicU32,
    tree: SpinCell<Tree>,
    contexts: Contexts,
}

impl Header {
    /// The header of a new object with one reference, no parent and no handle yet.
    pub(crate) fn new(kind: Kind, globals: &'static DriverGlobals) -> Self {
        Self {
            kind,
            globals,
            handle: AtomicUsize::new(0),
            references: AtomicI32::new(1),
            flags: AtomicU32::new(0),
            tree: SpinCell::new(Tree {
                state: State::Created,
                parent: None,
                children: Vec::new(),
            }),
            contexts: Contexts::default(),
        }
    }

    /// The object's type.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The driver the object belongs to.
    pub(crate) fn globals(&self) -> &'static DriverGlobals {
        self.globals
    }

    /// The handle the driver knows the object by; 0 before [`commit`].
    pub(crate) fn handle(&self) -> usize {
        self.handle.load(Ordering::Relaxed)
    }

    /// References held by the driver and the framework.
    pub(crate) fn references(&self) -> i32 {
        self.references.load(Ordering::SeqCst)
    }

    /// Takes a reference.
    pub(crate) fn add_ref(&self) {
        self.references.fetch_add(1, Ordering::SeqCst);
    }

    /// Forbids `WdfObjectDelete`.
    pub(crate) fn mark_no_delete(&self) {
        self.flags.fetch_or(NO_DELETE, Ordering::Relaxed);
    }

    /// Whether `WdfObjectDelete` is forbidden.
    pub(crate) fn is_no_delete(&self) -> bool {
        self.flag(NO_DELETE)
    }

    /// Disposal happens at `PASSIVE_LEVEL` only.
    pub(crate) fn mark_passive_dispose(&self) {
        self.flags.fetch_or(PASSIVE_DISPOSE, Ordering::Relaxed);
    }

    /// Callbacks, cleanup and destroy happen at `PASSIVE_LEVEL` only.
    pub(crate) fn mark_passive_callbacks(&self) {
        self.flags.fetch_or(PASSIVE_CALLBACKS, Ordering::Relaxed);
    }

    /// The contexts of the object.
    pub(crate) fn contexts(&self) -> &Contexts {
        &self.contexts
    }

    /// The object's state.
    pub(crate) fn state(&self) -> State {
        self.tree.lock().state
    }

    /// The parent, while it lives.
    pub(crate) fn parent(&self) -> Option<Arc<dyn Object>> {
        self.tree.lock().parent.as_ref().and_then(Weak::upgrade)
    }

    /// The children, in the order they were created.
    pub(crate) fn children(&self) -> Vec<Arc<dyn Object>> {
        self.tree.lock().children.clone()
    }

    fn flag(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    fn set_flag(&self, flag: u32) {
        self.flags.fetch_or(flag, Ordering::SeqCst);
    }
}

/// Who becomes the parent of a new object.
pub(crate) enum Parent {
    /// This object, whatever the attributes say.
    Object(Arc<dyn Object>),
    /// The attributes' parent, otherwise the driver.
    Driver,
    /// Nobody (requests that came from the I/O manager).
    None,
}

/// Makes `object` known to the driver: parent, context, callbacks, handle (`FxObject::Commit`).
///
/// # Errors
/// `STATUS_DELETE_PENDING` if the parent is going away, `STATUS_INSUFFICIENT_RESOURCES` if there is no memory for the
/// context. The object must be dropped then: it was never visible.
pub(crate) fn commit<T: Object>(
    object: &Arc<T>,
    attributes: Option<&Attributes>,
    parent: Parent,
) -> Result<usize, NTSTATUS> {
    let header = object.header();
    if attributes.is_some_and(|a| a.execution_level() == WdfExecutionLevelPassive) {
        header.mark_passive_callbacks();
    }
    let parent = match parent {
        Parent::Object(parent) => Some(parent),
        Parent::None => None,
        Parent::Driver => attributes
            .and_then(Attributes::parent_handle)
            .map(|handle| handle::any(header.globals, handle))
            .or_else(|| {
                header
                    .globals
                    .driver()
                    .map(|driver| driver as Arc<dyn Object>)
            }),
    };
    header.contexts.add_first(header.globals, attributes)?;
    let dynamic: Arc<dyn Object> = object.clone();
    if let Some(parent) = parent {
        lifetime::adopt(&parent, &dynamic)?;
    }
    let handle = handle::create(dynamic);
    header.handle.store(handle, Ordering::Relaxed);
    Ok(handle)
}

/// Drops an object whose creation failed after [`commit`]: no callback of the driver is called for it.
pub(crate) fn delete_failed<T: Object>(object: Arc<T>) {
    object.header().contexts.clear_callbacks();
    lifetime::delete(&(object as Arc<dyn Object>));
}

/// Deletes `object` as `WdfObjectDelete` does.
pub(crate) fn delete<T: Object>(object: &Arc<T>) {
    lifetime::delete(&(object.clone() as Arc<dyn Object>));
}

/// Disposes `object` and its children now and leaves it undeleted (`EarlyDispose`). False if it had to be deferred.
pub(crate) fn early_dispose<T: Object>(object: &Arc<T>) -> bool {
    lifetime::early_dispose(&(object.clone() as Arc<dyn Object>))
}

/// Deletes an object that was disposed early.
pub(crate) fn delete_early_disposed<T: Object>(object: &Arc<T>) {
    lifetime::delete_early_disposed(&(object.clone() as Arc<dyn Object>));
}

/// Cuts the disposed children off (`DestroyChildren`).
pub(crate) fn destroy_children<T: Object>(object: &Arc<T>) {
    lifetime::destroy_children(object.header());
}

/// A counted reference to an object, given back when dropped.
pub(crate) struct Held<T: Object>(Arc<T>);

impl<T: Object> Held<T> {
    /// Takes a reference.
    pub(crate) fn new(object: &Arc<T>) -> Self {
        object.header().add_ref();
        Self(object.clone())
    }
}

impl<T: Object> std::ops::Deref for Held<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

impl<T: Object> Drop for Held<T> {
    fn drop(&mut self) {
        lifetime::release(&(self.0.clone() as Arc<dyn Object>));
    }
}

/// The nearest device at or above `object` (`FxDeviceBase::_SearchForDevice`).
pub(crate) fn search_for_device(object: &Arc<dyn Object>) -> Option<Arc<Device>> {
    let mut current = Some(object.clone());
    while let Some(object) = current {
        if let Some(device) = kind::downcast::<Device>(object.clone()) {
            return Some(device);
        }
        current = object.header().parent();
    }
    None
}

/// Stops with 0x10D/7 if an object was freed by dereferencing instead of deleting (`FxObject::~FxObject`).
fn check_orphan(object: &Arc<dyn Object>) {
    let header = object.header();
    let tree = header.tree.lock();
    let attached =
        tree.parent.as_ref().and_then(Weak::upgrade).is_some() || !tree.children.is_empty();
    drop(tree);
    if attached {
        verifier::bug_check(
            header.globals,
            WDF_OBJECT_ERROR,
            header.handle(),
            Arc::as_ptr(object).cast::<u8>() as usize,
            "the object was freed by WdfObjectDereference, not by WdfObjectDelete",
        );
    }
}
