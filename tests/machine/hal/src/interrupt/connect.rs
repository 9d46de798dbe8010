//! IoConnectInterruptEx, IoDisconnectInterruptEx, IoReportInterruptActive and IoReportInterruptInactive.

use machine_nt::bugcheck::{Stop, stop_machine};
use machine_nt::sched;
use nt_sys::{
    _KINTERRUPT_MODE, CONNECT_CURRENT_VERSION, CONNECT_FULLY_SPECIFIED,
    CONNECT_FULLY_SPECIFIED_GROUP, CONNECT_LINE_BASED, CONNECT_MESSAGE_BASED,
    CONNECT_MESSAGE_BASED_PASSIVE, IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS,
    IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS, IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS,
    KAFFINITY, NTSTATUS, PDEVICE_OBJECT, PIO_CONNECT_INTERRUPT_PARAMETERS,
    PIO_DISCONNECT_INTERRUPT_PARAMETERS, PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS, PKINTERRUPT,
    PVOID, STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_NOT_SUPPORTED, STATUS_SUCCESS, ULONG,
};

use super::connection::{Connection, Routine, Wanted};
use super::vector::{Source, Vector};
use super::{Controller, controller, message_table};

impl Controller {
    /// Connects a routine to a vector.
    fn connect(
        &self,
        vector: Vector,
        routine: Routine,
        mut wanted: Wanted,
    ) -> Result<PKINTERRUPT, NTSTATUS> {
        wanted.processors &= (1 << sched::processor_count()) - 1;
        if wanted.processors == 0 {
            return Err(STATUS_INVALID_PARAMETER);
        }
        let connection = Connection::new(vector, routine, &wanted);
        let address = connection.address();
        if self.add(connection) {
            Ok(address)
        } else {
            Err(STATUS_INVALID_PARAMETER)
        }
    }

    /// Takes a connection away and waits until its routine no longer runs on any processor.
    fn disconnect(&self, routine: &'static str, interrupt: PKINTERRUPT) {
        let mut state = self.lock();
        let Some(index) = state
            .connections
            .iter()
            .position(|connection| connection.address() == interrupt)
        else {
            stop_unknown(routine, interrupt)
        };
        let connection = state.connections.remove(index);
        drop(state);
        connection.wait();
    }

    fn set_active(&self, routine: &'static str, interrupt: PKINTERRUPT, active: bool) {
        let state = self.lock();
        let Some(connection) = state
            .connections
            .iter()
            .find(|connection| connection.address() == interrupt)
        else {
            stop_unknown(routine, interrupt)
        };
        connection.set_active(active);
        let vector = connection.vector;
        let asserted = state.still_asserted(vector);
        drop(state);
        if active && asserted {
            self.request(vector.number);
        }
    }
}

/// The vectors of a device that are messages, or are not.
fn vectors(device: PDEVICE_OBJECT, messages: bool) -> Vec<Vector> {
    let is_wanted = |vector: &Vector| matches!(vector.source, Source::Message(_)) == messages;
    controller().with_vectors(|vectors| {
        vectors
            .assigned_to(device as u64)
            .filter(is_wanted)
            .collect()
    })
}

/// IoConnectInterruptEx. At PASSIVE_LEVEL.
///
/// # Safety
/// As the kernel routine: `parameters` points to the structure its version names, whose pointers are valid.
pub unsafe extern "win64" fn connect_ex(parameters: PIO_CONNECT_INTERRUPT_PARAMETERS) -> NTSTATUS {
    // SAFETY: the caller vouches for the structure.
    let parameters = unsafe { &mut *parameters };
    let version = parameters.Version;
    let result = match version {
        CONNECT_FULLY_SPECIFIED | CONNECT_FULLY_SPECIFIED_GROUP => {
            // SAFETY: the version names this member.
            let specified = unsafe { &parameters.__bindgen_anon_1.FullySpecified };
            connect_fully_specified(specified, version == CONNECT_FULLY_SPECIFIED_GROUP)
        }
        CONNECT_LINE_BASED => {
            // SAFETY: as above.
            connect_line(unsafe { &parameters.__bindgen_anon_1.LineBased })
        }
        CONNECT_MESSAGE_BASED => {
            // SAFETY: as above.
            let message = unsafe { parameters.__bindgen_anon_1.MessageBased };
            connect_messages(&message, &mut parameters.Version)
        }
        CONNECT_MESSAGE_BASED_PASSIVE => stop_machine(
            Stop::Unimplemented,
            "IoConnectInterruptEx: CONNECT_MESSAGE_BASED_PASSIVE",
        ),
        _ => {
            parameters.Version = CONNECT_CURRENT_VERSION;
            Err(STATUS_NOT_SUPPORTED)
        }
    };
    result.err().unwrap_or(STATUS_SUCCESS)
}

fn connect_fully_specified(
    specified: &IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS,
    grouped: bool,
) -> Result<(), NTSTATUS> {
    let routine = specified.ServiceRoutine.ok_or(STATUS_INVALID_PARAMETER)?;
    let device = specified.PhysicalDeviceObject as u64;
    let vector = controller()
        .with_vectors(|vectors| vectors.of(device, specified.Vector))
        .ok_or(STATUS_INVALID_PARAMETER)?;
    let mode = if vector.is_level() {
        _KINTERRUPT_MODE::LevelSensitive
    } else {
        _KINTERRUPT_MODE::Latched
    };
    let irqls = specified.Irql == vector.irql() && specified.SynchronizeIrql >= specified.Irql;
    if specified.InterruptMode != mode || !irqls || (grouped && specified.Group != 0) {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let wanted = Wanted {
        spin_lock: specified.SpinLock,
        synchronize_irql: specified.SynchronizeIrql,
        context: specified.ServiceContext,
        processors: specified.ProcessorEnableMask,
        exclusive: specified.ShareVector == 0,
    };
    let object = controller().connect(vector, Routine::Line(routine), wanted)?;
    // SAFETY: the caller of IoConnectInterruptEx gave a place for the object.
    unsafe { specified.InterruptObject.write(object) };
    Ok(())
}

fn connect_line(line: &IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS) -> Result<(), NTSTATUS> {
    let routine = line.ServiceRoutine.ok_or(STATUS_INVALID_PARAMETER)?;
    let vector = *vectors(line.PhysicalDeviceObject, false)
        .first()
        .ok_or(STATUS_NOT_FOUND)?;
    let wanted = Wanted {
        spin_lock: line.SpinLock,
        synchronize_irql: line.SynchronizeIrql,
        context: line.ServiceContext,
        processors: KAFFINITY::MAX,
        exclusive: false,
    };
    let object = controller().connect(vector, Routine::Line(routine), wanted)?;
    // SAFETY: the caller of IoConnectInterruptEx gave a place for the object.
    unsafe { line.InterruptObject.write(object) };
    Ok(())
}

/// Connects all messages of a device, or its line if it has none and the driver has a routine for that; `version` then
/// says so.
fn connect_messages(
    parameters: &IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS,
    version: &mut ULONG,
) -> Result<(), NTSTATUS> {
    let routine = parameters
        .MessageServiceRoutine
        .ok_or(STATUS_INVALID_PARAMETER)?;
    let messages = vectors(parameters.PhysicalDeviceObject, true);
    let Some(irql) = messages.iter().map(|vector| vector.irql()).max() else {
        *version = CONNECT_LINE_BASED;
        return connect_line(&IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS {
            PhysicalDeviceObject: parameters.PhysicalDeviceObject,
            // SAFETY: every member of the union is a pointer to where the result goes.
            InterruptObject: unsafe { parameters.ConnectionContext.InterruptObject },
            ServiceRoutine: parameters.FallBackServiceRoutine,
            ServiceContext: parameters.ServiceContext,
            SpinLock: parameters.SpinLock,
            SynchronizeIrql: parameters.SynchronizeIrql,
            FloatingSave: parameters.FloatingSave,
        });
    };
    let wanted = Wanted {
        spin_lock: parameters.SpinLock,
        synchronize_irql: parameters.SynchronizeIrql.max(irql),
        context: parameters.ServiceContext,
        processors: KAFFINITY::MAX,
        exclusive: true,
    };
    let mut objects = Vec::new();
    for (number, vector) in (0..).zip(&messages) {
        match controller().connect(*vector, Routine::Message(routine, number), wanted) {
            Ok(object) => objects.push(object),
            Err(status) => {
                for object in objects {
                    controller().disconnect("IoConnectInterruptEx", object);
                }
                return Err(status);
            }
        }
    }
    let table = message_table::build(
        &**controller().board(),
        &messages,
        &objects,
        wanted.synchronize_irql,
        (1 << sched::processor_count()) - 1,
    );
    // SAFETY: the caller of IoConnectInterruptEx gave a place for the table.
    let place = unsafe { parameters.ConnectionContext.InterruptMessageTable };
    // SAFETY: as above.
    unsafe { place.write(table) };
    Ok(())
}

/// The interrupt objects that a version and a connection context name.
///
/// # Safety
/// `context` is what IoConnectInterruptEx returned for `version`.
unsafe fn objects(version: ULONG, context: PVOID) -> Vec<PKINTERRUPT> {
    match version {
        // SAFETY: the caller vouches for the table.
        CONNECT_MESSAGE_BASED => unsafe { message_table::objects(context.cast()) },
        _ => vec![context.cast()],
    }
}

/// IoDisconnectInterruptEx. At PASSIVE_LEVEL.
///
/// # Safety
/// As the kernel routine: `parameters` names a connection made with the same version.
pub unsafe extern "win64" fn disconnect_ex(parameters: PIO_DISCONNECT_INTERRUPT_PARAMETERS) {
    // SAFETY: the caller vouches for the structure.
    let parameters = unsafe { &*parameters };
    // SAFETY: every member of the union is a pointer.
    let context = unsafe { parameters.ConnectionContext.Generic };
    // SAFETY: the caller vouches for the connection.
    for interrupt in unsafe { objects(parameters.Version, context) } {
        controller().disconnect("IoDisconnectInterruptEx", interrupt);
    }
    if parameters.Version == CONNECT_MESSAGE_BASED {
        // SAFETY: the table was built for this connection, which has just ended.
        unsafe { message_table::free(context.cast()) };
    }
}

/// Sets whether the driver wants the interrupts of a connection.
///
/// # Safety
/// As [`disconnect_ex`].
unsafe fn report(
    routine: &'static str,
    parameters: PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS,
    active: bool,
) {
    // SAFETY: the caller vouches for the structure.
    let parameters = unsafe { &*parameters };
    // SAFETY: every member of the union is a pointer.
    let context = unsafe { parameters.ConnectionContext.Generic };
    // SAFETY: the caller vouches for the connection.
    for interrupt in unsafe { objects(parameters.Version, context) } {
        controller().set_active(routine, interrupt, active);
    }
}

/// IoReportInterruptActive. Up to DISPATCH_LEVEL.
///
/// # Safety
/// As [`disconnect_ex`].
pub unsafe extern "win64" fn report_active(
    parameters: PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS,
) {
    // SAFETY: the caller vouches for it.
    unsafe { report("IoReportInterruptActive", parameters, true) }
}

/// IoReportInterruptInactive. Up to DISPATCH_LEVEL.
///
/// # Safety
/// As [`disconnect_ex`].
pub unsafe extern "win64" fn report_inactive(
    parameters: PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS,
) {
    // SAFETY: the caller vouches for it.
    unsafe { report("IoReportInterruptInactive", parameters, false) }
}

fn stop_unknown(routine: &'static str, interrupt: PKINTERRUPT) -> ! {
    stop_machine(
        Stop::Internal,
        format_args!("{routine}: {interrupt:p} is no connected interrupt"),
    )
}
