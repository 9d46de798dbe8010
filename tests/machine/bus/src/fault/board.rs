//! The board with the shim in front of it.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::shim::{Fired, Shim};
use super::state::State;
use crate::engine::Engine;
use crate::platform::PlatformDevice;
use crate::system_dma::DmaController;
use crate::watch::Watch;
use crate::{
    Board, BoardError, BoardEvent, FunctionAddress, Iommu, Message, PhysicalMemory, Waited, q35,
};

/// A board of which one function can be made to fail.
pub struct FaultyBoard(Arc<Core>);

/// What the board and its [`Shim`] share.
pub(super) struct Core {
    pub(super) inner: Box<dyn Board>,
    function: FunctionAddress,
    state: Mutex<State>,
    /// Who is told of each fault that strikes.
    pub(super) told: OnceLock<fn(&Fired)>,
}

impl Core {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless somebody is just changing it.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        self.state.try_lock().ok()
    }

    /// Does something in which faults may strike, and tells of those that did.
    pub(super) fn act<R>(&self, f: impl FnOnce(&mut State, &dyn Board) -> R) -> R {
        let mut state = self.lock();
        let before = state.total;
        let result = f(&mut state, &*self.inner);
        let struck = (state.total - before) as usize;
        if struck == 0 {
            return result;
        }
        let older = state.fired.len().saturating_sub(struck);
        let fired: Vec<Fired> = state.fired.iter().skip(older).cloned().collect();
        drop(state);
        if let Some(tell) = self.told.get() {
            fired.iter().for_each(tell);
        }
        result
    }
}

impl FaultyBoard {
    /// Puts a shim in front of `function`, before anybody gives it addresses or interrupts. The `engine` is needed for
    /// faults of its commands and its DMA.
    pub fn new(
        inner: Box<dyn Board>,
        function: FunctionAddress,
        engine: Option<Engine>,
    ) -> Result<Self, BoardError> {
        let watch = Watch::new(&*inner, function)?;
        Ok(Self(Arc::new(Core {
            inner,
            function,
            state: Mutex::new(State::new(watch, engine)),
            told: OnceLock::new(),
        })))
    }

    /// The handle by which faults are armed.
    pub fn shim(&self) -> Shim {
        Shim(Arc::clone(&self.0))
    }

    fn inner(&self) -> &dyn Board {
        &*self.0.inner
    }
}

impl Board for FaultyBoard {
    fn describe(&self) -> String {
        let function = self.0.function;
        format!(
            "{}; {function} can be made to fail",
            self.inner().describe()
        )
    }

    fn external_version(&self) -> Option<&str> {
        self.inner().external_version()
    }

    fn memory(&self) -> &Arc<PhysicalMemory> {
        self.inner().memory()
    }

    fn register_window(&self) -> Range<u64> {
        self.inner().register_window()
    }

    fn config_read(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
    ) -> Result<u32, BoardError> {
        if function != self.0.function {
            return self.inner().config_read(function, offset, size);
        }
        q35::check_express_access(offset, size)?;
        self.0
            .act(|state, inner| state.config_read(inner, offset, size))
    }

    fn config_write(
        &self,
        function: FunctionAddress,
        offset: u16,
        size: u8,
        value: u32,
    ) -> Result<(), BoardError> {
        if function != self.0.function {
            return self.inner().config_write(function, offset, size, value);
        }
        q35::check_express_access(offset, size)?;
        self.0
            .act(|state, inner| state.config_write(inner, offset, size, value))
    }

    fn read(&self, physical: u64, size: u8) -> Result<u64, BoardError> {
        self.0.act(|state, inner| {
            let Some(register) = state.watch.decode(physical) else {
                return inner.read(physical, size);
            };
            q35::check_access(physical, size)?;
            state.read(inner, register, physical, size)
        })
    }

    fn write(&self, physical: u64, size: u8, value: u64) -> Result<(), BoardError> {
        self.0.act(|state, inner| {
            let Some(register) = state.watch.decode(physical) else {
                return inner.write(physical, size, value);
            };
            q35::check_access(physical, size)?;
            let value = value & q35::mask(size);
            state.write(inner, register, physical, size, value)
        })
    }

    fn power_off(&self, function: FunctionAddress) {
        self.inner().power_off(function);
        if function == self.0.function {
            self.0.lock().lost_power();
        }
    }

    fn message_target(&self, vector: u8) -> Message {
        let message = self.inner().message_target(vector);
        self.0.lock().watch.target(vector, message);
        message
    }

    fn line(&self, function: FunctionAddress, pin: u8) -> u32 {
        self.inner().line(function, pin)
    }

    fn poll(&self, now_ns: u64, events: &mut Vec<BoardEvent>) -> Result<(), BoardError> {
        self.0.act(|state, inner| {
            let result = state.run(inner, now_ns);
            events.append(&mut state.news);
            result
        })
    }

    /// With an external board, the time at which the shim itself does something.
    fn next_event(&self) -> Option<u64> {
        let state = self.0.lock();
        if !state.news.is_empty() {
            return Some(state.arsenal.counts.now);
        }
        state
            .next()
            .into_iter()
            .chain(self.inner().next_event())
            .min()
    }

    fn wait(&self, limit: Duration) -> Result<Waited, BoardError> {
        let state = self.0.lock();
        let now = state.arsenal.counts.now;
        let left = if state.news.is_empty() {
            state.next().map(|due| due.saturating_sub(now))
        } else {
            Some(0)
        };
        drop(state);
        let own = left.map(Duration::from_nanos).filter(|left| *left < limit);
        let waited = match own {
            Some(Duration::ZERO) => Waited {
                news: true,
                elapsed: Duration::ZERO,
            },
            _ => self.inner().wait(own.unwrap_or(limit))?,
        };
        Ok(match own {
            Some(own) if !waited.news => Waited {
                news: true,
                elapsed: waited.elapsed.max(own),
            },
            _ => waited,
        })
    }

    fn has_news(&self) -> bool {
        let state = self.0.lock();
        !state.news.is_empty() || state.next().is_some() || self.inner().has_news()
    }

    fn iommu(&self) -> Option<&Iommu> {
        self.inner().iommu()
    }

    fn platform(&self) -> Vec<PlatformDevice> {
        self.inner().platform()
    }

    fn unplug_platform(&self, registers: &Range<u64>) {
        self.inner().unplug_platform(registers);
    }

    fn dma_controller(&self) -> Option<&dyn DmaController> {
        self.inner().dma_controller()
    }
}
