//! Taking a device down: with notice, and without.

use machine_nt::exports::ObfDereferenceObject;
use nt_sys::{
    IRP_MJ_PNP, IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_REMOVE_DEVICE,
    IRP_MN_SURPRISE_REMOVAL, PDEVICE_OBJECT, nt_success,
};

use super::{Node, Phase, PnpError, with};
use crate::interrupt::controller;
use crate::{bus_driver, irp};

/// The device objects of a stack, the physical one first.
pub fn stack(node: &Node) -> Vec<PDEVICE_OBJECT> {
    let mut devices = Vec::new();
    let mut next = node.device();
    while !next.is_null() {
        devices.push(next);
        // SAFETY: what is attached to a live device object is one.
        next = unsafe { (*next).AttachedDevice };
    }
    devices
}

/// Handles that are open to any device of the stack.
fn open_handles(node: &Node) -> usize {
    // SAFETY: the stack consists of live device objects.
    stack(node)
        .into_iter()
        .map(|device| unsafe { (*device).ReferenceCount }.max(0) as usize)
        .sum()
}

/// Removes a started device if nobody objects.
pub fn remove(node: &Node) -> Result<(), PnpError> {
    if node.phase() != Phase::Started {
        return Err(PnpError::Phase(node.phase()));
    }
    let open = open_handles(node);
    let query = irp::send(
        node.device(),
        irp::location(IRP_MJ_PNP, IRP_MN_QUERY_REMOVE_DEVICE),
    );
    let refusal = match (nt_success(query.status), open) {
        (false, _) => Some(PnpError::QueryRemove(query.status)),
        (true, 0) => None,
        (true, open) => Some(PnpError::OpenHandles(open)),
    };
    if let Some(refusal) = refusal {
        irp::send(
            node.device(),
            irp::location(IRP_MJ_PNP, IRP_MN_CANCEL_REMOVE_DEVICE),
        );
        return Err(refusal);
    }
    send_remove(node);
    node.status().phase = Phase::Removed;
    Ok(())
}

/// Sends IRP_MN_REMOVE_DEVICE and takes the resources back.
pub fn send_remove(node: &Node) {
    irp::send(
        node.device(),
        irp::location(IRP_MJ_PNP, IRP_MN_REMOVE_DEVICE),
    );
    release(node);
}

fn release(node: &Node) {
    with(|state| controller().with_vectors(|vectors| state.arbiter.release(node.pdo, vectors)));
    node.status().resources.clear();
}

/// Pulls a device out.
pub fn surprise_remove(node: &Node) -> Result<(), PnpError> {
    match node.phase() {
        Phase::Started | Phase::Stopped => {}
        Phase::SurpriseRemoved | Phase::Removed => return Ok(()),
        phase => return Err(PnpError::Phase(phase)),
    }
    if let Some(child) = bus_driver::child(node.pdo) {
        child.device().pull();
    }
    surprise(node);
    Ok(())
}

/// Tells the drivers of a device that it is gone, and removes them as soon as there are no open handles.
pub fn surprise(node: &Node) {
    irp::send(
        node.device(),
        irp::location(IRP_MJ_PNP, IRP_MN_SURPRISE_REMOVAL),
    );
    node.status().phase = Phase::SurpriseRemoved;
    finish(node);
}

/// Removes the drivers of a device that is gone, unless there are open handles.
pub fn finish(node: &Node) {
    if open_handles(node) > 0 {
        return;
    }
    let gone = bus_driver::child(node.pdo).is_some_and(|child| child.device().is_gone());
    send_remove(node);
    node.status().phase = Phase::Removed;
    if gone {
        with(|state| state.nodes.remove(&node.pdo));
        // SAFETY: the reference the node had since its bus reported it.
        unsafe { ObfDereferenceObject(node.device().cast()) };
    }
}
