//! WDFINTERRUPT (`interruptobject.cpp`, `interruptobjectkm.cpp`).

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

use crate::flat::*;
use machine_nt::exports::{
    IoConnectInterruptEx, IoDisconnectInterruptEx, KeFlushQueuedDpcs, KeInitializeDpc,
    KeInsertQueueDpc, KeSynchronizeExecution,
};
use machine_nt::ke::stack::{driver_call, machine_code};

use crate::device::Device;
use crate::io::queue::Queue;
use crate::lock::{CallbackLock, Ptr, Record, serialized};
use crate::object::{self, Attributes, Header, Kind, Object, Parent, Typed, handle};
use crate::resource::ResourceList;
use crate::spinlock::SpinLock;
use crate::worker::Worker;
use crate::{trace, verifier};

pub(crate) mod api;

/// How an interrupt is connected or disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notify {
    /// The first start, or a stop for good: a connection is made or undone.
    Full,
    /// A power request of a device that is not pageable: the connection stays.
    NonPageable,
    /// The hardware is gone: EvtInterruptDisable is not called.
    SurpriseRemoved,
}

/// An interrupt.
pub(crate) struct Interrupt {
    header: Header,
    device: Arc<Device>,
    isr: PFN_WDF_INTERRUPT_ISR,
    dpc_callback: PFN_WDF_INTERRUPT_DPC,
    work_item: PFN_WDF_INTERRUPT_WORKITEM,
    enable: PFN_WDF_INTERRUPT_ENABLE,
    disable: PFN_WDF_INTERRUPT_DISABLE,
    floating_save: bool,
    created_in_prepare_hardware: bool,
    /// Serialises the DPC or work item with the callbacks of the parent.
    callback_lock: Option<Arc<CallbackLock>>,
    spin_lock: Option<Arc<SpinLock>>,
    own_spin_lock: UnsafeCell<KSPIN_LOCK>,
    worker: Option<Worker>,
    dpc: Box<UnsafeCell<KDPC>>,
    info: Record<WDF_INTERRUPT_INFO>,
    synchronize_irql: AtomicU8,
    /// The connection; null while there is none. A word of its own: the kernel writes it before the first interrupt.
    object: AtomicPtr<_KINTERRUPT>,
    old_irql: AtomicU8,
    connected: AtomicBool,
    enabled: AtomicBool,
    force_disconnected: AtomicBool,
    resource: Record<Ptr<CM_PARTIAL_RESOURCE_DESCRIPTOR>>,
}

// SAFETY: the DPC and the spin lock inside are kernel objects, made to be shared; the rest is.
unsafe impl Send for Interrupt {}
// SAFETY: as above.
unsafe impl Sync for Interrupt {}

impl Object for Interrupt {
    fn header(&self) -> &Header {
        &self.header
    }

    fn deleting(&self) {
        self.device.pnp.remove_interrupt(self);
    }

    fn dispose(&self) {
        // SAFETY: interrupts are disposed at PASSIVE_LEVEL.
        unsafe { KeFlushQueuedDpcs() };
        if let Some(worker) = &self.worker {
            worker.wait_until_idle();
        }
    }

    fn dump(&self) -> Vec<String> {
        let info = self.info.try_with(|info| {
            format!(
                "vector {:#x}, IRQL {}, message signaled {}",
                info.Vector,
                info.Irql,
                info.MessageSignaled != 0
            )
        });
        let connected = format!("connected {}", self.connected.load(Ordering::Relaxed));
        info.into_iter().chain([connected]).collect()
    }
}

impl Typed for Interrupt {
    const KIND: Kind = Kind::Interrupt;
}

impl Interrupt {
    /// Makes an interrupt for `WdfInterruptCreate`, which checked the configuration.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER` (a parent that is neither the device nor a queue of it), `STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL`,
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    fn make(
        device: &Arc<Device>,
        parent: Arc<dyn Object>,
        attributes: Option<&Attributes>,
        config: &WDF_INTERRUPT_CONFIG,
    ) -> Result<Arc<Self>, NTSTATUS> {
        let globals = device.globals();
        let callback_lock = Self::serialization(device, &parent, config)?;
        let worker = match config.EvtInterruptWorkItem {
            Some(_) => Some(
                Worker::new(device.function_object().cast())
                    .ok_or(STATUS_INSUFFICIENT_RESOURCES)?,
            ),
            None => None,
        };
        let spin_lock = (!config.SpinLock.is_null())
            .then(|| handle::get::<SpinLock>(globals, config.SpinLock as usize));
        if let Some(lock) = &spin_lock {
            lock.mark_interrupt_lock();
        }
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut info: WDF_INTERRUPT_INFO = unsafe { std::mem::zeroed() };
        info.Size = size_of::<WDF_INTERRUPT_INFO>() as _;
        info.MessageNumber = device.pnp.next_message_number() as _;
        let interrupt = Arc::new(Self {
            header: Header::new(Kind::Interrupt, globals),
            device: device.clone(),
            isr: config.EvtInterruptIsr,
            dpc_callback: config.EvtInterruptDpc,
            work_item: config.EvtInterruptWorkItem,
            enable: config.EvtInterruptEnable,
            disable: config.EvtInterruptDisable,
            floating_save: config.FloatingSave != 0,
            created_in_prepare_hardware: !config.InterruptRaw.is_null(),
            callback_lock,
            spin_lock,
            own_spin_lock: UnsafeCell::new(0),
            worker,
            // SAFETY: all-zero bytes are a valid value of this plain structure, initialised below.
            dpc: Box::new(UnsafeCell::new(unsafe { std::mem::zeroed() })),
            info: Record::new(info),
            synchronize_irql: AtomicU8::new(0),
            object: AtomicPtr::default(),
            old_irql: AtomicU8::new(0),
            connected: AtomicBool::new(false),
            enabled: AtomicBool::new(false),
            force_disconnected: AtomicBool::new(false),
            resource: Record::default(),
        });
        // SAFETY: the interrupt owns its DPC and outlives it: disposal flushes DPCs.
        unsafe {
            KeInitializeDpc(
                interrupt.dpc.get(),
                Some(dpc),
                Arc::as_ptr(&interrupt).cast_mut().cast(),
            )
        };
        interrupt.header.mark_no_delete();
        interrupt.header.mark_passive_dispose();
        object::commit(&interrupt, attributes, Parent::Object(parent))?;
        if interrupt.created_in_prepare_hardware {
            interrupt.assign(config.InterruptRaw, config.InterruptTranslated);
        }
        device.pnp.add_interrupt(&interrupt);
        Ok(interrupt)
    }

    /// The lock the deferred callback shares with its parent's callbacks, if automatic serialization is asked for.
    fn serialization(
        device: &Arc<Device>,
        parent: &Arc<dyn Object>,
        config: &WDF_INTERRUPT_CONFIG,
    ) -> Result<Option<Arc<CallbackLock>>, NTSTATUS> {
        let owner = object::search_for_device(parent);
        let kind = parent.header().kind();
        if !owner.is_some_and(|owner| Arc::ptr_eq(&owner, device))
            || !matches!(kind, Kind::Device | Kind::Queue)
        {
            return Err(STATUS_INVALID_PARAMETER);
        }
        let globals = device.globals();
        let (lock, passive) = if kind == Kind::Queue {
            let queue: Arc<Queue> = handle::get(globals, parent.header().handle());
            queue.set_interrupt_queue();
            (queue.callback_lock(), queue.is_passive())
        } else {
            (
                device.callback_lock(),
                device.constraints().0 == WdfExecutionLevelPassive,
            )
        };
        if config.AutomaticSerialization == 0 || lock.is_none() {
            return Ok(None);
        }
        if passive != config.EvtInterruptWorkItem.is_some() {
            verifier::break_point(globals);
            return Err(STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL);
        }
        Ok(lock)
    }

    fn handle(&self) -> WDFINTERRUPT {
        self.header.handle() as WDFINTERRUPT
    }

    /// Whether it lives from EvtDevicePrepareHardware to EvtDeviceReleaseHardware only.
    pub(crate) fn is_created_in_prepare_hardware(&self) -> bool {
        self.created_in_prepare_hardware
    }

    /// Whether it has got its vector.
    pub(crate) fn has_resource(&self) -> bool {
        !self.resource.get().0.is_null()
    }

    /// Gives it a vector (`AssignResources`).
    pub(crate) fn assign(
        &self,
        raw: PCM_PARTIAL_RESOURCE_DESCRIPTOR,
        translated: PCM_PARTIAL_RESOURCE_DESCRIPTOR,
    ) {
        // SAFETY: a descriptor of a resource list, which lives as long as the hardware is prepared.
        let description = unsafe { translated.read_unaligned() };
        let flags = description.Flags as u32;
        let message = flags & CM_RESOURCE_INTERRUPT_MESSAGE != 0;
        // SAFETY: an interrupt descriptor's translated half.
        let interrupt = unsafe { description.u.Interrupt };
        let count = ResourceList::message_count(raw);
        self.info.with(|info| {
            info.TargetProcessorSet = interrupt.Affinity;
            info.ShareDisposition = description.ShareDisposition;
            info.Mode = if flags & CM_RESOURCE_INTERRUPT_LATCHED != 0 {
                Latched
            } else {
                LevelSensitive
            };
            info.Irql = interrupt.Level as KIRQL;
            info.MessageSignaled = BOOLEAN::from(message);
            info.Vector = if count > 1 {
                interrupt.Vector + info.MessageNumber
            } else {
                interrupt.Vector
            };
        });
        self.resource.set(Ptr(translated));
    }

    /// Takes the vector away (`RevokeResources`).
    pub(crate) fn revoke(&self) {
        self.info.with(|info| {
            let number = info.MessageNumber;
            // SAFETY: all-zero bytes are a valid value of this plain structure.
            *info = unsafe { std::mem::zeroed() };
            info.Size = size_of::<WDF_INTERRUPT_INFO>() as _;
            info.MessageNumber = number;
        });
        self.resource.set(Ptr::default());
    }

    /// Decides the IRQL its lock is held at: its own, or the highest of those that share a spin lock.
    pub(crate) fn set_synchronize_irql(&self, all: &[Arc<Self>]) {
        let own = self.info.with(|info| info.Irql);
        let shared = all
            .iter()
            .filter(|other| match (&self.spin_lock, &other.spin_lock) {
                (Some(own), Some(other)) => Arc::ptr_eq(own, other),
                _ => false,
            });
        let highest = shared
            .map(|other| other.info.with(|info| info.Irql))
            .fold(own, KIRQL::max);
        self.synchronize_irql.store(highest, Ordering::Relaxed);
    }

    /// The kernel's interrupt object; null while not connected.
    fn kernel_object(&self) -> *mut _KINTERRUPT {
        self.object.load(Ordering::SeqCst)
    }

    fn lock_address(&self) -> PKSPIN_LOCK {
        self.spin_lock
            .as_ref()
            .map_or(self.own_spin_lock.get(), |lock| lock.address())
    }

    /// Connects, if it has a vector, and calls EvtInterruptEnable (`FxInterrupt::Connect`). `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// Those of `IoConnectInterruptEx` and of the callback.
    pub(crate) fn connect(&self, notify: Notify) -> Result<(), NTSTATUS> {
        let info = self.info.get();
        if self.force_disconnected.load(Ordering::SeqCst) || info.Vector == 0 {
            return Ok(());
        }
        if notify != Notify::NonPageable {
            self.connect_kernel(&info)?;
            self.connected.store(true, Ordering::SeqCst);
        }
        self.call_at_dirql(self.enable)?;
        self.enabled.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn connect_kernel(&self, info: &WDF_INTERRUPT_INFO) -> Result<(), NTSTATUS> {
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut parameters: IO_CONNECT_INTERRUPT_PARAMETERS = unsafe { std::mem::zeroed() };
        parameters.Version = CONNECT_FULLY_SPECIFIED_GROUP as _;
        // SAFETY: the variant of the version just set.
        let full = unsafe { &mut parameters.__bindgen_anon_1.FullySpecified };
        full.PhysicalDeviceObject = self.device.physical_object();
        full.InterruptObject = self.object.as_ptr();
        full.ServiceRoutine = Some(service);
        full.ServiceContext = std::ptr::from_ref(self).cast_mut().cast();
        full.SpinLock = self.lock_address();
        full.FloatingSave = BOOLEAN::from(self.floating_save);
        full.Vector = info.Vector;
        full.Irql = info.Irql;
        full.ProcessorEnableMask = info.TargetProcessorSet;
        full.Group = info.Group;
        full.InterruptMode = info.Mode;
        full.ShareVector =
            BOOLEAN::from(u32::from(info.ShareDisposition) == CmResourceShareShared as u32);
        full.SynchronizeIrql = self.synchronize_irql.load(Ordering::Relaxed) as KIRQL;
        // SAFETY: the parameters are complete; the interrupt outlives its connection.
        let status = unsafe { IoConnectInterruptEx(&raw mut parameters) };
        if status < 0 {
            trace::error(
                self.device.globals(),
                &format!("IoConnectInterruptEx fails with {status:#010x}"),
            );
            self.object.store(std::ptr::null_mut(), Ordering::SeqCst);
            return Err(status);
        }
        Ok(())
    }

    /// Calls EvtInterruptDisable, lets DPCs finish and disconnects (`FxInterrupt::Disconnect`). `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// Those of the callback; the interrupt is disconnected all the same.
    pub(crate) fn disconnect(&self, notify: Notify) -> Result<(), NTSTATUS> {
        if self.info.with(|info| info.Vector) == 0 || !self.connected.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut result = Ok(());
        if self.enabled.load(Ordering::SeqCst) && notify != Notify::SurpriseRemoved {
            result = self.call_at_dirql(self.disable);
            self.enabled.store(false, Ordering::SeqCst);
        }
        // SAFETY: at PASSIVE_LEVEL.
        unsafe { KeFlushQueuedDpcs() };
        if let Some(worker) = &self.worker {
            worker.wait_until_idle();
        }
        if notify == Notify::NonPageable {
            return result;
        }
        self.disconnect_kernel();
        self.connected.store(false, Ordering::SeqCst);
        result
    }

    fn disconnect_kernel(&self) {
        let object = self.object.swap(std::ptr::null_mut(), Ordering::SeqCst);
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let mut parameters: IO_DISCONNECT_INTERRUPT_PARAMETERS = unsafe { std::mem::zeroed() };
        parameters.Version = CONNECT_FULLY_SPECIFIED_GROUP as _;
        parameters.ConnectionContext.InterruptObject = object;
        // SAFETY: connected by `connect_kernel`.
        unsafe { IoDisconnectInterruptEx(&raw mut parameters) };
    }

    /// Calls EvtInterruptEnable or EvtInterruptDisable at DIRQL, with the interrupt's lock held.
    fn call_at_dirql(&self, callback: PFN_WDF_INTERRUPT_ENABLE) -> Result<(), NTSTATUS> {
        let Some(callback) = callback else {
            return Ok(());
        };
        let mut call = Call {
            callback,
            interrupt: self,
            status: STATUS_SUCCESS,
        };
        let context = (&raw mut call).cast();
        // SAFETY: connected; the context lives until the call returns.
        unsafe { KeSynchronizeExecution(self.kernel_object().cast(), Some(call_thunk), context) };
        crate::wdm::check(call.status)
    }

    fn run_isr(&self) -> bool {
        if self.kernel_object().is_null() {
            return false;
        }
        let Some(isr) = self.isr else { return false };
        let message = self.info.with(|info| info.MessageNumber);
        // SAFETY: the driver registered the callback; the kernel holds the interrupt's lock.
        driver_call(|| unsafe { isr(self.handle(), message) != 0 })
    }

    fn run_deferred(&self) {
        let lock = self.callback_lock.as_deref();
        let device = self.device.handle() as WDFOBJECT;
        if let Some(work_item) = self.work_item {
            // SAFETY: the driver registered the callback.
            serialized(lock, || unsafe { work_item(self.handle(), device) });
        } else if let Some(dpc) = self.dpc_callback {
            // SAFETY: the driver registered the callback.
            serialized(lock, || unsafe { dpc(self.handle(), device) });
        }
    }

    fn queue_work_item(&self) -> bool {
        let Some(worker) = &self.worker else {
            return false;
        };
        let interrupt: Arc<Self> = handle::get(self.device.globals(), self.header.handle());
        worker.run(move || interrupt.run_deferred());
        true
    }

    fn queue_dpc(&self) -> bool {
        // SAFETY: initialised in `make`.
        unsafe { KeInsertQueueDpc(self.dpc.get(), std::ptr::null_mut(), std::ptr::null_mut()) != 0 }
    }
}

struct Call<'a> {
    callback: unsafe extern "win64" fn(WDFINTERRUPT, WDFDEVICE) -> NTSTATUS,
    interrupt: &'a Interrupt,
    status: NTSTATUS,
}

unsafe extern "win64" fn call_thunk(context: PVOID) -> BOOLEAN {
    let _inside = machine_code();
    // SAFETY: the call on the stack of the thread that synchronizes.
    let call = unsafe { &mut *context.cast::<Call<'_>>() };
    // SAFETY: the driver registered the callback.
    call.status = driver_call(|| unsafe {
        (call.callback)(call.interrupt.handle(), call.interrupt.device.handle())
    });
    TRUE as BOOLEAN
}

unsafe extern "win64" fn service(_interrupt: *mut _KINTERRUPT, context: PVOID) -> BOOLEAN {
    let _inside = machine_code();
    // SAFETY: the interrupt outlives its connection.
    BOOLEAN::from(unsafe { &*context.cast::<Interrupt>() }.run_isr())
}

unsafe extern "win64" fn dpc(_dpc: PKDPC, context: PVOID, _argument1: PVOID, _argument2: PVOID) {
    let _inside = machine_code();
    // SAFETY: the interrupt outlives its DPC.
    let interrupt = unsafe { &*context.cast::<Interrupt>() };
    if interrupt.worker.is_some() {
        interrupt.queue_work_item();
    } else {
        interrupt.run_deferred();
    }
}
