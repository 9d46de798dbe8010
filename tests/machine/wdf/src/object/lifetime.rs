//! From deletion to destruction (`fxobjectstatemachine.cpp`).
//!
//! Deleting an object takes it out of its parent, disposes its children (and theirs) in the order they were created, then
//! the object itself: its own [`Object::dispose`], then its cleanup callbacks. After that the children are cut off and
//! lose the reference of their creation, and so does the object. Whoever still holds a reference keeps the object's
//! memory and handle; the last one to let go causes the destroy callbacks.

use std::sync::Arc;

use crate::flat::*;
use machine_nt::exports::KeGetCurrentIrql;

use super::{
    DELETE_CALLED, EARLY_DISPOSED, Header, Object, PASSIVE_CALLBACKS, PASSIVE_DISPOSE, State, Tree,
    check_orphan, handle,
};
use crate::lock::SpinGuard;

/// Whether the current IRQL is too high to dispose `object` here.
fn must_defer(header: &Header) -> bool {
    // SAFETY: callable at any IRQL.
    let irql = unsafe { KeGetCurrentIrql() };
    irql != PASSIVE_LEVEL as KIRQL
        && (header.flag(PASSIVE_DISPOSE) || header.flag(PASSIVE_CALLBACKS))
}

/// Makes `child` a child of `parent`.
///
/// # Errors
/// `STATUS_DELETE_PENDING` if `parent` is no longer in its created state.
pub(super) fn adopt(parent: &Arc<dyn Object>, child: &Arc<dyn Object>) -> Result<(), NTSTATUS> {
    let mut tree = parent.header().tree.lock();
    if tree.state != State::Created {
        return Err(STATUS_DELETE_PENDING);
    }
    tree.children.push(child.clone());
    drop(tree);
    child.header().tree.lock().parent = Some(Arc::downgrade(parent));
    Ok(())
}

/// Takes `object` out of its parent. False if the parent is itself being disposed and will take care of it.
fn leave_parent(object: &Arc<dyn Object>) -> bool {
    let Some(parent) = object.header().parent() else {
        return true;
    };
    let mut tree = parent.header().tree.lock();
    if tree.state != State::Created {
        return false;
    }
    tree.children.retain(|child| !Arc::ptr_eq(child, object));
    drop(tree);
    object.header().tree.lock().parent = None;
    true
}

/// Deletes `object` (`FxObject::DeleteObject`).
pub(crate) fn delete(object: &Arc<dyn Object>) {
    object.deleting();
    let header = object.header();
    header.set_flag(DELETE_CALLED);
    match header.state() {
        State::Created => {
            if leave_parent(object) {
                delete_worker(object);
            } else {
                header.tree.lock().state = State::WaitingForParent;
            }
        }
        State::Disposed => {
            if leave_parent(object) {
                deleted_and_disposed(object);
            } else {
                header.tree.lock().state = State::WaitingForParent;
            }
        }
        // Being disposed or deleted already: whoever does it finishes the work.
        _ => {}
    }
}

fn delete_worker(object: &Arc<dyn Object>) {
    if defer_if_needed(object, true) {
        return;
    }
    object.header().tree.lock().state = State::DeletedDisposing;
    dispose_tree(object);
    deleted_and_disposed(object);
}

/// Queues `object`'s disposal to a passive thread if it, or anything below it, needs one.
fn defer_if_needed(object: &Arc<dyn Object>, delete: bool) -> bool {
    let header = object.header();
    let children = header.children();
    if !must_defer(header) && !children.iter().any(|child| must_defer(child.header())) {
        return false;
    }
    header.tree.lock().state = State::Deferred { delete };
    let deferred = object.clone();
    header
        .globals()
        .passive_worker()
        .run(move || dispose_deferred(&deferred));
    true
}

fn dispose_deferred(object: &Arc<dyn Object>) {
    let state = object.header().state();
    match state {
        State::Deferred { delete: true } => {
            object.header().tree.lock().state = State::DeletedDisposing;
            dispose_tree(object);
            deleted_and_disposed(object);
        }
        State::Deferred { delete: false } => {
            dispose_and_finish(object);
        }
        _ => {}
    }
}

/// Disposes the children in order, then the object.
fn dispose_tree(object: &Arc<dyn Object>) {
    for child in object.header().children() {
        perform_early_dispose(&child);
    }
    object.dispose();
    object
        .header()
        .contexts
        .call_cleanup(object.header().handle());
}

/// Disposes a child whose parent is going.
fn perform_early_dispose(object: &Arc<dyn Object>) {
    match object.header().state() {
        State::Created | State::Deferred { .. } => dispose_and_finish(object),
        State::WaitingForParent if !object.header().flag(EARLY_DISPOSED) => {
            dispose_and_finish(object)
        }
        _ => {}
    }
}

fn dispose_and_finish(object: &Arc<dyn Object>) {
    let header = object.header();
    header.tree.lock().state = State::Disposing;
    dispose_tree(object);
    if header.flag(DELETE_CALLED) && header.flag(EARLY_DISPOSED) {
        deleted_and_disposed(object);
    } else {
        header.tree.lock().state = State::Disposed;
    }
}

/// Disposes `object` without deleting it. False if that was deferred or the object is past it.
pub(super) fn early_dispose(object: &Arc<dyn Object>) -> bool {
    let header = object.header();
    if header.state() != State::Created {
        return false;
    }
    if !leave_parent(object) {
        header.tree.lock().state = State::WaitingForParent;
        return false;
    }
    header.set_flag(EARLY_DISPOSED);
    if defer_if_needed(object, false) {
        return false;
    }
    dispose_and_finish(object);
    true
}

/// Deletes an object that [`early_dispose`] disposed.
pub(super) fn delete_early_disposed(object: &Arc<dyn Object>) {
    let header = object.header();
    header.set_flag(DELETE_CALLED);
    if header.state() == State::Disposed {
        deleted_and_disposed(object);
    }
}

fn deleted_and_disposed(object: &Arc<dyn Object>) {
    object.header().tree.lock().state = State::DeletedAndDisposed;
    destroy_children(object.header());
    release(object);
}

/// Cuts off each child and gives its creation's reference back (`FxObject::DestroyChildren`).
pub(super) fn destroy_children(header: &Header) {
    let take = |mut tree: SpinGuard<'_, Tree>| {
        (!tree.children.is_empty()).then(|| tree.children.remove(0))
    };
    while let Some(child) = take(header.tree.lock()) {
        let mut tree = child.header().tree.lock();
        tree.parent = None;
        let disposed = matches!(tree.state, State::Disposed | State::WaitingForParent);
        drop(tree);
        if disposed {
            deleted_and_disposed(&child);
        }
    }
}

/// Gives a reference back (`FxObject::Release`).
pub(super) fn release(object: &Arc<dyn Object>) {
    let header = object.header();
    if header
        .references
        .fetch_sub(1, std::sync::atomic::Ordering::SeqCst)
        != 1
    {
        return;
    }
    if must_defer(header) {
        let deferred = object.clone();
        header
            .globals()
            .passive_worker()
            .run(move || destroy(&deferred));
    } else {
        destroy(object);
    }
}

fn destroy(object: &Arc<dyn Object>) {
    check_orphan(object);
    let header = object.header();
    header.contexts.call_destroy(header.handle());
    object.destroyed();
    header.contexts.free();
    header.tree.lock().state = State::Destroyed;
    handle::close(header.handle());
}
