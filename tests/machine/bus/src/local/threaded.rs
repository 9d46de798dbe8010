//! A board in this process whose devices run on a thread of their own, in real time: for machines that run freely.
//!
//! Register writes are posted, as on PCI Express: they are queued, and the writer goes on. A read, and any access to
//! configuration space, waits until the devices have seen the writes before it. Devices reach memory without an IOMMU.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::MESSAGES;
use super::bell::Bell;
use super::slot::{Outlet, Shared, Slot, Surroundings};
use crate::{
    Board, BoardError, BoardEvent, Device, FunctionAddress, Iommu, MemoryConfig, Message,
    PhysicalMemory, Waited, q35,
};

/// How long the devices' thread sleeps if no device says when it has something to do.
const LONG: Duration = Duration::from_secs(1);

/// The board.
pub struct ThreadedBoard {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    memory: Arc<PhysicalMemory>,
    started: Instant,
    state: Mutex<State>,
    /// Threads that want `state`. The devices' thread, which takes it again and again, lets them go first.
    waiting: AtomicU32,
    posted: Mutex<VecDeque<Posted>>,
    /// Rung when the devices have something to do.
    work: Bell,
    outlet: Arc<Outlet>,
    ends: AtomicBool,
}

struct State {
    slots: Vec<Slot>,
    shared: Shared,
}

/// A register write under way.
struct Posted {
    physical: u64,
    size: u8,
    value: u64,
}

impl ThreadedBoard {
    /// A board with a device in each of the given slots of bus 0.
    pub fn new(
        memory: &MemoryConfig,
        devices: Vec<(FunctionAddress, Box<dyn Device>)>,
    ) -> Result<Self, BoardError> {
        let started = Instant::now();
        let outlet = Arc::new(Outlet::default());
        let slots = devices
            .into_iter()
            .map(|(address, device)| Slot::new(address, device))
            .collect();
        let inner = Arc::new(Inner {
            memory: PhysicalMemory::new(memory)?,
            started,
            state: Mutex::new(State {
                slots,
                shared: Shared::in_real_time(started, Arc::clone(&outlet)),
            }),
            waiting: AtomicU32::new(0),
            posted: Mutex::default(),
            work: Bell::default(),
            outlet,
            ends: AtomicBool::new(false),
        });
        let devices = Arc::clone(&inner);
        let thread = std::thread::Builder::new()
            .name("devices".to_owned())
            .spawn(move || devices.run())
            .map_err(|source| BoardError::System {
                action: "start the devices' thread",
                source,
            })?;
        Ok(Self {
            inner,
            thread: Some(thread),
        })
    }

    /// Takes what is in a slot out of it, as a surprise: from now on nothing answers there.
    pub fn unplug(&self, function: FunctionAddress) -> Option<Box<dyn Device>> {
        self.inner.access(|slots, shared, _| {
            let index = slots.iter().position(|slot| slot.address() == function)?;
            Some(slots.remove(index).remove(shared))
        })
    }
}

impl Drop for ThreadedBoard {
    fn drop(&mut self) {
        self.inner.ends.store(true, Ordering::Release);
        self.inner.work.ring();
        if let Some(thread) = self.thread.take() {
            // A device that panicked has stopped the machine already.
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// The devices' thread.
    fn run(&self) {
        while !self.ends.load(Ordering::Acquire) {
            while self.waiting.load(Ordering::Relaxed) > 0 {
                std::thread::yield_now();
            }
            if let Some(idle) = self.step() {
                self.work.wait(idle);
            }
        }
    }

    /// Carries out what was posted and runs the first device that is due; how long there is nothing to do after it.
    fn step(&self) -> Option<Duration> {
        let mut state = self.lock();
        let State { slots, shared } = &mut *state;
        self.drain(slots, shared);
        let first = slots
            .iter_mut()
            .filter_map(|slot| Some((slot.next_event()?, slot)))
            .min_by_key(|(due, _)| *due);
        let Some((due, slot)) = first else {
            return Some(LONG);
        };
        let now = self.now();
        if due > now {
            return Some(Duration::from_nanos(due - now));
        }
        slot.run(self.surroundings(shared));
        None
    }

    fn drain(&self, slots: &mut [Slot], shared: &mut Shared) {
        loop {
            let next = lock(&self.posted).pop_front();
            let Some(Posted {
                physical,
                size,
                value,
            }) = next
            else {
                return;
            };
            self.reach(slots, shared, physical, |slot, bar, offset, around| {
                slot.write(bar, offset, size, value, around);
            });
        }
    }

    /// Has the device that decodes an address do something, with the number of its register and the offset.
    fn reach<T>(
        &self,
        slots: &mut [Slot],
        shared: &mut Shared,
        physical: u64,
        act: impl FnOnce(&mut Slot, u8, u64, Surroundings<'_>) -> T,
    ) -> Option<T> {
        let (slot, bar, offset) = slots.iter_mut().find_map(|slot| {
            let (bar, offset) = slot.decode(physical)?;
            Some((slot, bar, offset))
        })?;
        Some(act(slot, bar, offset, self.surroundings(shared)))
    }

    fn surroundings<'a>(&'a self, shared: &'a mut Shared) -> Surroundings<'a> {
        Surroundings {
            memory: &self.memory,
            iommu: None,
            shared,
        }
    }

    /// An access that is not posted: it comes after all writes before it, and when it is done the devices go on.
    fn access<R>(&self, f: impl FnOnce(&mut Vec<Slot>, &mut Shared, &Self) -> R) -> R {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let State { slots, shared } = &mut *state;
        self.drain(slots, shared);
        let result = f(slots, shared, self);
        drop(state);
        self.work.ring();
        result
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board for ThreadedBoard {
    fn describe(&self) -> String {
        let state = self.inner.lock();
        let devices: Vec<String> = state
            .slots
            .iter()
            .map(|slot| format!("{} at {}", slot.name(), slot.address()))
            .collect();
        format!(
            "in-process board with {} on a thread of its own",
            devices.join("; ")
        )
    }

    fn memory(&self) -> &Arc<PhysicalMemory> {
        &self.inner.memory
    }

    fn register_window(&self) -> Range<u64> {
        q35::REGISTER_WINDOW
    }

    fn config_read(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
    ) -> Result<u32, BoardError> {
        q35::check_express_access(offset, size)?;
        Ok(self.inner.access(|slots, _, _| {
            let slot = slots.iter().find(|slot| slot.address() == function);
            slot.map_or(q35::mask(size) as u32, |slot| {
                slot.config_read(offset, size)
            })
        }))
    }

    fn config_write(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
        value: u32,
    ) -> Result<(), BoardError> {
        q35::check_express_access(offset, size)?;
        self.inner.access(|slots, shared, inner| {
            if let Some(slot) = slots.iter_mut().find(|slot| slot.address() == function) {
                slot.config_write(offset, size, value, inner.surroundings(shared));
            }
        });
        Ok(())
    }

    /// What nothing decodes reads as all ones.
    fn read(&self, physical: u64, size: u8) -> Result<u64, BoardError> {
        q35::check_access(physical, size)?;
        let value = self.inner.access(|slots, shared, inner| {
            inner.reach(slots, shared, physical, |slot, bar, offset, around| {
                slot.read(bar, offset, size, around)
            })
        });
        Ok(value.unwrap_or(u64::MAX) & q35::mask(size))
    }

    fn write(&self, physical: u64, size: u8, value: u64) -> Result<(), BoardError> {
        q35::check_access(physical, size)?;
        lock(&self.inner.posted).push_back(Posted {
            physical,
            size,
            value: value & q35::mask(size),
        });
        self.inner.work.ring();
        Ok(())
    }

    fn message_target(&self, vector: u8) -> Message {
        Message {
            address: MESSAGES,
            data: vector.into(),
        }
    }

    fn line(&self, function: FunctionAddress, pin: u8) -> u32 {
        q35::line(function, pin)
    }

    /// The time passed is not looked at: the board has a clock of its own.
    fn poll(&self, _: u64, events: &mut Vec<BoardEvent>) -> Result<(), BoardError> {
        match self.inner.outlet.take(events) {
            Some((device, reason)) => Err(BoardError::DeviceAborted { device, reason }),
            None => Ok(()),
        }
    }

    fn next_event(&self) -> Option<u64> {
        None
    }

    fn has_news(&self) -> bool {
        self.inner.outlet.has_news()
    }

    fn wait(&self, limit: Duration) -> Result<Waited, BoardError> {
        let start = Instant::now();
        let news = self.inner.outlet.wait(limit);
        Ok(Waited {
            news,
            elapsed: start.elapsed(),
        })
    }

    fn iommu(&self) -> Option<&Iommu> {
        None
    }
}
