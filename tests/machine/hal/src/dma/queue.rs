//! Requests for the adapter channel and for map registers, served in order when there are enough.

use std::collections::BTreeSet;

use machine_nt::sched::{self, DISPATCH_LEVEL};
use nt_sys::{NTSTATUS, STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS};

use super::adapter::{Allocation, Channel};
use super::channel::ChannelRequest;
use super::list::ListRequest;
use super::transfer_context::TransferContext;
use super::{Dma, with};

/// What is done once the resources are there.
pub enum Kind {
    /// The adapter's channel with map registers; then the AdapterControl routine.
    Channel(ChannelRequest),
    /// Map registers; then the list and the AdapterListControl routine.
    List(ListRequest),
}

/// A request for resources.
pub struct Request {
    /// Address of the adapter.
    pub adapter: u64,
    /// Device object the caller gave.
    pub device: u64,
    /// How many map registers.
    pub registers: u32,
    /// By which a version 3 request can be cancelled.
    pub context: Option<TransferContext>,
    /// What for.
    pub kind: Kind,
}

/// A request whose resources are allocated.
pub struct Grant {
    pub request: Request,
    /// The map registers.
    pub handle: u64,
}

impl Request {
    fn needs_channel(&self) -> bool {
        matches!(self.kind, Kind::Channel(_))
    }
}

impl Dma {
    /// Allocates what `request` needs, if it is there.
    fn try_grant(&mut self, request: &Request) -> Option<u64> {
        if request.needs_channel() && self.channel_busy(request.adapter) {
            return None;
        }
        let adapter = self.adapters.get_mut(&request.adapter)?;
        let registers = self.pool.allocate(
            request.registers,
            adapter.bounce_width(self.config.always_bounce),
        )?;
        let handle = registers.handle;
        if request.needs_channel() {
            adapter.channel = Some(Channel {
                device: request.device,
                handle,
                context: request.context,
            });
        }
        adapter.allocations.insert(
            handle,
            Allocation {
                registers,
                used: 0,
                mappings: Vec::new(),
            },
        );
        if let Some(context) = &request.context {
            context.set_granted();
        }
        Some(handle)
    }

    /// What requests for a channel compete for: a channel of the controller, whatever adapters lead to it, or the
    /// adapter of a bus master.
    fn contended(&self, adapter: u64) -> (Option<u32>, u64) {
        let system = self
            .adapters
            .get(&adapter)
            .and_then(|adapter| adapter.description.system);
        match system {
            Some(system) => (Some(system.channel), 0),
            None => (None, adapter),
        }
    }

    fn channel_busy(&self, adapter: u64) -> bool {
        let wanted = self.contended(adapter);
        let mut held = self
            .adapters
            .iter()
            .filter(|(_, other)| other.channel.is_some());
        held.any(|(&other, _)| self.contended(other) == wanted)
    }

    /// Whether all that wait are waiting for other channels than a request would have.
    fn is_next(&self, request: &Request) -> bool {
        let wanted = self.contended(request.adapter);
        self.queue.iter().all(|waiting| {
            self.contended(waiting.adapter) != wanted
                && waiting.needs_channel()
                && self.channel_busy(waiting.adapter)
        })
    }

    /// Takes the first request from the queue that can be granted. Requests for map registers are served strictly in
    /// order; one that waits for its adapter's channel lets those of other adapters pass.
    fn next_grant(&mut self) -> Option<Grant> {
        let mut blocked = BTreeSet::new();
        for index in 0..self.queue.len() {
            let request = &self.queue[index];
            let contended = self.contended(request.adapter);
            if blocked.contains(&contended) {
                continue;
            }
            if request.needs_channel() && self.channel_busy(request.adapter) {
                blocked.insert(contended);
                continue;
            }
            let request = self.queue.remove(index)?;
            let Some(handle) = self.try_grant(&request) else {
                self.queue.insert(index, request);
                return None;
            };
            return Some(Grant { request, handle });
        }
        None
    }

    /// How many requests of an adapter wait.
    pub fn waiting(&self, adapter: u64) -> usize {
        self.queue
            .iter()
            .filter(|request| request.adapter == adapter)
            .count()
    }
}

/// Serves a request now, or, unless it is `synchronous`, as soon as its resources are there.
pub fn submit(request: Request, synchronous: bool) -> NTSTATUS {
    let granted = with(|dma| {
        let at_once = dma.is_next(&request) && (synchronous || !dma.config.defer_grants);
        if at_once && let Some(handle) = dma.try_grant(&request) {
            return Ok(Some(Grant { request, handle }));
        }
        if synchronous {
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        }
        if let Some(context) = &request.context {
            context.set_queued();
        }
        dma.queue.push_back(request);
        Ok(None)
    });
    match granted {
        Ok(Some(grant)) => serve(grant),
        Ok(None) if with(|dma| dma.config.defer_grants) => super::deferred::schedule(),
        Ok(None) => {}
        Err(status) => return status,
    }
    STATUS_SUCCESS
}

/// Serves everything in the queue whose resources are there. Called whenever some became free.
pub fn pump() {
    while let Some(grant) = with(Dma::next_grant) {
        serve(grant);
    }
}

fn serve(grant: Grant) {
    let Grant { request, handle } = grant;
    sched::at_irql(DISPATCH_LEVEL, || match request.kind {
        Kind::Channel(channel) => channel.run(request.adapter, request.device, handle),
        Kind::List(list) => list.run(request.adapter, request.device, handle),
    });
}
