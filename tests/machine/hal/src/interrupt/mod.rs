//! Interrupts: from the board's lines and messages to the service routines of drivers.
//!
//! [`vector`] says which source is which vector, [`connect`] is how drivers connect to them, and [`Controller`] routes:
//! it is polled by the scheduler, makes interrupts pending at a processor, and delivers a level-triggered one again for
//! as long as its line is asserted.

mod connect;
mod connection;
mod message_table;
pub mod vector;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use machine_bus::{Board, BoardEvent, FunctionAddress};
use machine_nt::bugcheck::{Stop, stop_machine};
use machine_nt::sched::{self, Interrupt, InterruptSource, Waited};
use machine_nt::{counters, trace};

use crate::config::Config;
use crate::dma::verifier::Violation;
use connection::Connection;
use vector::{Source, Vector, Vectors};

pub use connect::{connect_ex, disconnect_ex, report_active, report_inactive};

/// The interrupt controller of the machine.
pub struct Controller {
    board: Arc<dyn Board>,
    storm_limit: u32,
    stray_dma_is_blocked: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    vectors: Vectors,
    connections: Vec<Arc<Connection>>,
    asserted: BTreeSet<u32>,
    /// How often a vector was delivered without an end to it: no claim, or a line that stays asserted.
    unended: BTreeMap<u8, u32>,
}

static CONTROLLER: OnceLock<Arc<Controller>> = OnceLock::new();

/// Makes the controller of a machine with this board its source of interrupts.
pub fn install(config: &Config, board: Arc<dyn Board>) {
    let Config {
        storm_limit,
        stray_dma_is_blocked,
        ..
    } = *config;
    let controller = CONTROLLER.get_or_init(|| {
        Arc::new(Controller {
            board,
            storm_limit,
            stray_dma_is_blocked,
            state: Mutex::default(),
        })
    });
    sched::set_interrupt_source(controller.clone());
}

/// Who is told that a function was pulled out.
static REMOVAL: OnceLock<fn(FunctionAddress)> = OnceLock::new();

/// Names who is told that a function was pulled out: the PnP manager. It is called between two steps of the machine or
/// at a device's IRQL, so it may do no more than take note and set a thread to work.
pub fn on_removal(handler: fn(FunctionAddress)) {
    REMOVAL.get_or_init(|| handler);
}

fn removed(function: FunctionAddress) {
    match REMOVAL.get() {
        Some(handler) => handler(function),
        None => stop_machine(
            Stop::Unimplemented,
            format_args!("{function} was pulled out, and no PnP manager is there to be told"),
        ),
    }
}

/// The machine's controller.
pub fn controller() -> &'static Arc<Controller> {
    CONTROLLER
        .get()
        .unwrap_or_else(|| crate::stop_internal("interrupts are used before the HAL is installed"))
}

impl Controller {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The board whose interrupts these are.
    pub fn board(&self) -> &Arc<dyn Board> {
        &self.board
    }

    /// Reads or changes which device has which vector.
    pub fn with_vectors<R>(&self, f: impl FnOnce(&mut Vectors) -> R) -> R {
        f(&mut self.lock().vectors)
    }

    /// Takes what has happened on the board and makes interrupts pending.
    fn collect(&self, now: u64) {
        let mut events = Vec::new();
        if let Err(error) = self.board.poll(now, &mut events) {
            stop_machine(Stop::Board, error);
        }
        for event in events {
            match event {
                BoardEvent::Line { line, asserted } => self.line_changed(line, asserted),
                BoardEvent::Message { vector } => self.request(vector),
                BoardEvent::DmaFault { address, .. } if self.stray_dma_is_blocked => {
                    trace::record("DMA that is not mapped", address);
                }
                BoardEvent::DmaFault {
                    function,
                    address,
                    write,
                } => {
                    let device = crate::dma::device_of(function);
                    Violation::DeviceFault {
                        device,
                        address,
                        write,
                    }
                    .raise()
                }
                BoardEvent::Removed { function } => removed(function),
            }
        }
        crate::dma::system::collect(self.board.dma_controller());
    }

    fn line_changed(&self, line: u32, asserted: bool) {
        let mut state = self.lock();
        let vector = state.vectors.of_line(line);
        if asserted {
            state.asserted.insert(line);
        } else {
            state.asserted.remove(&line);
            vector.and_then(|vector| state.unended.remove(&vector.number));
        }
        drop(state);
        if let (true, Some(vector)) = (asserted, vector) {
            self.request(vector.number);
        }
    }

    /// Makes a vector pending at the processor its first connection wants it at. Without a connection, a line stays
    /// masked and a message is lost.
    fn request(&self, number: u8) {
        let connection = self.lock().connected(number).next().cloned();
        let Some(connection) = connection else {
            counters().interrupts_unclaimed.increment();
            return;
        };
        let service = Arc::new(move || controller().deliver(number));
        let interrupt = Interrupt {
            irql: connection.vector.irql(),
            vector: number.into(),
            service,
        };
        sched::request_interrupt(connection.processor(), interrupt);
    }

    /// Calls the service routines of a vector. At the vector's IRQL, on whatever stack it interrupted.
    fn deliver(&self, number: u8) {
        let connections: Vec<_> = self.lock().connected(number).cloned().collect();
        let claimed = connections.iter().any(|connection| connection.serve());
        if !claimed {
            counters().interrupts_unclaimed.increment();
        }
        // What the service routine did may have changed the line.
        self.collect(sched::now());
        let Some(vector) = connections.first().map(|connection| connection.vector) else {
            return;
        };
        let again = self.lock().still_asserted(vector);
        self.count(vector, claimed, again);
        if again {
            self.request(number);
        }
    }

    /// Counts deliveries that changed nothing, and stops when they do not end.
    fn count(&self, vector: Vector, claimed: bool, again: bool) {
        let mut state = self.lock();
        let unended = state.unended.entry(vector.number).or_default();
        *unended = if again || !claimed { *unended + 1 } else { 0 };
        let unended = *unended;
        drop(state);
        if unended >= self.storm_limit {
            let what = match vector.source {
                Source::Line(line) => format!("line {line} is still asserted after"),
                Source::Message(message) => format!("nobody claims message {message} after"),
            };
            stop_machine(
                Stop::InterruptStorm,
                format_args!("{what} {unended} deliveries"),
            );
        }
    }

    /// Adds a connection and delivers what its line already asks for.
    fn add(&self, connection: Arc<Connection>) -> bool {
        let vector = connection.vector;
        let mut state = self.lock();
        let mut others = state
            .connections
            .iter()
            .filter(|other| other.vector == vector);
        if others.any(|other| connection.exclusive || other.exclusive) {
            return false;
        }
        state.connections.push(connection);
        let asserted = state.still_asserted(vector);
        drop(state);
        if asserted {
            self.request(vector.number);
        }
        true
    }
}

impl State {
    /// The connections of a vector that are active, in the order they were made.
    fn connected(&self, number: u8) -> impl Iterator<Item = &Arc<Connection>> {
        self.connections
            .iter()
            .filter(move |connection| connection.vector.number == number && connection.is_active())
    }

    fn still_asserted(&self, vector: Vector) -> bool {
        matches!(vector.source, Source::Line(line) if self.asserted.contains(&line))
    }
}

impl InterruptSource for Controller {
    fn poll(&self, now: u64) {
        self.collect(now);
    }

    fn next_event(&self) -> Option<u64> {
        self.board.next_event()
    }

    fn has_news(&self) -> bool {
        self.board.has_news()
    }

    fn is_external(&self) -> bool {
        // Devices on this thread go through an IOMMU; those of an external board, and of one with a thread of its own,
        // reach memory by themselves.
        self.board.iommu().is_none()
    }

    fn wait(&self, limit: Duration) -> Waited {
        let waited = self
            .board
            .wait(limit)
            .unwrap_or_else(|error| stop_machine(Stop::Board, error));
        Waited {
            happened: waited.news,
            elapsed: waited.elapsed,
        }
    }
}
