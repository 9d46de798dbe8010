//! What the I/O manager does for user mode, seen by a plain WDM driver that has no framework between.

#![allow(
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "a driver in C is nothing but this"
)]

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use harness::{Suite, bug_check};
use machine::nt_sys::*;
use machine::testdriver::TestDriver;
use machine::user::{self, Access, File, Process, Token, Win32Error, wait_any};
use machine::{Config, Device, DriverSource};
use machine_nt::exports::{
    IoCreateDevice, IoCreateSymbolicLink, IoReleaseCancelSpinLock, IofCompleteRequest,
    MmMapLockedPagesSpecifyCache,
};

const LINK: &str = r"\??\Probe";
const DEVICE: &str = r"\Device\Probe";

fn main() -> ExitCode {
    Suite::new()
        .passes(
            "a_file_is_created_cleaned_up_and_closed",
            a_file_is_created_cleaned_up_and_closed,
        )
        .passes(
            "close_waits_for_the_last_request",
            close_waits_for_the_last_request,
        )
        .passes(
            "a_refused_create_is_not_closed",
            a_refused_create_is_not_closed,
        )
        .passes(
            "direct_reads_have_an_mdl_over_the_user_buffer",
            direct_reads_have_an_mdl_over_the_user_buffer,
        )
        .passes(
            "pages_are_unlocked_when_the_irp_is_complete",
            pages_are_unlocked_when_the_irp_is_complete,
        )
        .passes("an_empty_read_has_no_mdl", an_empty_read_has_no_mdl)
        .passes(
            "buffered_data_is_copied_back_as_far_as_information_says",
            buffered_data_is_copied_back_as_far_as_information_says,
        )
        .passes(
            "errors_carry_no_data_and_warnings_do",
            errors_carry_no_data_and_warnings_do,
        )
        .passes(
            "control_requests_travel_by_their_method",
            control_requests_travel_by_their_method,
        )
        .passes(
            "handles_have_the_access_they_were_opened_with",
            handles_have_the_access_they_were_opened_with,
        )
        .passes(
            "cancelling_calls_the_cancel_routine",
            cancelling_calls_the_cancel_routine,
        )
        .passes(
            "a_process_that_ends_cancels_and_closes",
            a_process_that_ends_cancels_and_closes,
        )
        .passes("waiting_for_any_of_several", waiting_for_any_of_several)
        .passes("a_wait_ends_at_its_limit", a_wait_ends_at_its_limit)
        .passes(
            "the_last_of_several_handles_closes_the_file",
            the_last_of_several_handles_closes_the_file,
        )
        .passes(
            "a_thread_that_ends_cancels_its_own_requests",
            a_thread_that_ends_cancels_its_own_requests,
        )
        .stops(
            "information_beyond_the_buffer",
            bug_check(0x50),
            information_beyond_the_buffer,
        )
        .main()
}

/// What the driver saw of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    major: u32,
    length: u32,
    offset: i64,
    flags: u32,
    has_mdl: bool,
    has_system_buffer: bool,
    has_user_buffer: bool,
}

thread_local! {
    static SEEN: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) };
    /// What the driver does with reads, writes and control requests.
    static ANSWER: Cell<Answer> = const { Cell::new(Answer::Complete(STATUS_SUCCESS, 0)) };
    /// What it answers to IRP_MJ_CREATE.
    static CREATE: Cell<NTSTATUS> = const { Cell::new(STATUS_SUCCESS) };
    /// Requests it keeps.
    static HELD: RefCell<Vec<PIRP>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy)]
enum Answer {
    /// Completes with this status and information.
    Complete(NTSTATUS, usize),
    /// Fills the data, and completes with this status and information.
    Fill(u8, NTSTATUS, usize),
    /// Keeps the request, cancelable.
    Hold,
}

fn seen(major: u32) -> Vec<Seen> {
    SEEN.with_borrow(|seen| {
        seen.iter()
            .filter(|seen| seen.major == major)
            .cloned()
            .collect()
    })
}

fn majors() -> Vec<u32> {
    SEEN.with_borrow(|seen| seen.iter().map(|seen| seen.major).collect())
}

/// Runs `test` with a device whose requests travel as `transport` (`DO_DIRECT_IO`, `DO_BUFFERED_IO` or 0) says.
fn with_device(transport: u32, test: impl FnOnce(&Process) + 'static) {
    let mut config = Config::new(DriverSource::Test(TestDriver::default()));
    config.device = Device::EduTwin;
    machine::run(config, move |machine| {
        unsafe { create_device(transport) };
        test(&machine.process(Token::Administrator));
    })
    .expect("a machine");
}

fn open(process: &Process) -> File {
    process
        .open(r"\\?\Probe", Access::READ_WRITE)
        .expect("opened")
}

unsafe fn create_device(transport: u32) {
    let driver = machine_nt::io::driver::create("probe", 0..0);
    for major in [
        IRP_MJ_CREATE,
        IRP_MJ_CLEANUP,
        IRP_MJ_CLOSE,
        IRP_MJ_READ,
        IRP_MJ_WRITE,
        IRP_MJ_DEVICE_CONTROL,
    ] {
        (*driver).MajorFunction[major as usize] = Some(dispatch);
    }
    let (mut name, mut link) = (wide(DEVICE), wide(LINK));
    let (mut name, mut link) = (counted(&mut name), counted(&mut link));
    let mut device = ptr::null_mut();
    let status = IoCreateDevice(driver, 0, &mut name, FILE_DEVICE_UNKNOWN, 0, 0, &mut device);
    assert_eq!(status, STATUS_SUCCESS);
    assert_eq!(IoCreateSymbolicLink(&mut link, &mut name), STATUS_SUCCESS);
    (*device).Flags |= transport;
    (*device).Flags &= !DO_DEVICE_INITIALIZING;
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

fn counted(units: &mut [u16]) -> UNICODE_STRING {
    let bytes = (units.len() * 2) as USHORT;
    UNICODE_STRING {
        Length: bytes,
        MaximumLength: bytes,
        Buffer: units.as_mut_ptr(),
    }
}

unsafe fn location(irp: PIRP) -> *mut IO_STACK_LOCATION {
    (*irp)
        .Tail
        .Overlay
        .__bindgen_anon_2
        .__bindgen_anon_1
        .CurrentStackLocation
}

unsafe extern "win64" fn dispatch(_device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    let location = &mut *location(irp);
    let major = u32::from(location.MajorFunction);
    let (length, offset) = match major {
        IRP_MJ_READ | IRP_MJ_WRITE => (
            location.Parameters.Read.Length,
            location.Parameters.Read.ByteOffset.QuadPart,
        ),
        IRP_MJ_DEVICE_CONTROL => (location.Parameters.DeviceIoControl.OutputBufferLength, 0),
        _ => (0, 0),
    };
    SEEN.with_borrow_mut(|seen| {
        seen.push(Seen {
            major,
            length,
            offset,
            flags: (*irp).Flags,
            has_mdl: !(*irp).MdlAddress.is_null(),
            has_system_buffer: !(*irp).AssociatedIrp.SystemBuffer.is_null(),
            has_user_buffer: !(*irp).UserBuffer.is_null(),
        });
    });
    match (major, ANSWER.get()) {
        (IRP_MJ_CREATE, _) => complete(irp, CREATE.get(), 0),
        (IRP_MJ_CLEANUP | IRP_MJ_CLOSE, _) => complete(irp, STATUS_SUCCESS, 0),
        (_, Answer::Complete(status, information)) => complete(irp, status, information),
        (_, Answer::Fill(value, status, information)) => {
            fill(irp, value, length as usize);
            complete(irp, status, information)
        }
        (_, Answer::Hold) => {
            location.Control |= SL_PENDING_RETURNED as UCHAR;
            (&raw mut (*irp).CancelRoutine).write_volatile(Some(cancelled));
            HELD.with_borrow_mut(|held| held.push(irp));
            STATUS_PENDING
        }
    }
}

unsafe fn fill(irp: PIRP, value: u8, length: usize) {
    let system_buffer = (*irp).AssociatedIrp.SystemBuffer;
    if !(*irp).MdlAddress.is_null() {
        let address = MmMapLockedPagesSpecifyCache(
            (*irp).MdlAddress,
            _MODE::KernelMode as KPROCESSOR_MODE,
            _MEMORY_CACHING_TYPE::MmCached,
            ptr::null_mut(),
            0,
            _MM_PAGE_PRIORITY::NormalPagePriority as ULONG,
        );
        address.cast::<u8>().write_bytes(value, length);
    } else if !system_buffer.is_null() {
        system_buffer.cast::<u8>().write_bytes(value, length);
    } else {
        (*irp).UserBuffer.cast::<u8>().write_bytes(value, length);
    }
}

unsafe fn complete(irp: PIRP, status: NTSTATUS, information: usize) -> NTSTATUS {
    (*irp).IoStatus.__bindgen_anon_1.Status = status;
    (*irp).IoStatus.Information = information as ULONG_PTR;
    IofCompleteRequest(irp, IO_NO_INCREMENT as CCHAR);
    status
}

unsafe extern "win64" fn cancelled(_device: PDEVICE_OBJECT, irp: PIRP) {
    IoReleaseCancelSpinLock((*irp).CancelIrql);
    HELD.with_borrow_mut(|held| held.retain(|other| *other != irp));
    complete(irp, STATUS_CANCELLED, 0);
}

/// Completes the request that has been kept longest.
fn release_one() {
    let irp = HELD.with_borrow_mut(|held| held.remove(0));
    unsafe {
        (&raw mut (*irp).CancelRoutine).write_volatile(None);
        complete(irp, STATUS_SUCCESS, 0);
    }
}

fn a_file_is_created_cleaned_up_and_closed() {
    with_device(DO_DIRECT_IO, |process| {
        let file = open(process);
        assert_eq!(majors(), [IRP_MJ_CREATE]);
        drop(file);
        assert_eq!(majors(), [IRP_MJ_CREATE, IRP_MJ_CLEANUP, IRP_MJ_CLOSE]);
        let flags = IRP_CREATE_OPERATION | IRP_SYNCHRONOUS_API;
        assert_eq!(seen(IRP_MJ_CREATE)[0].flags, flags);
    });
}

fn close_waits_for_the_last_request() {
    with_device(DO_DIRECT_IO, |process| {
        ANSWER.set(Answer::Hold);
        let file = open(process);
        let request = file.read(0, process.buffer(10).expect("memory"), 0..10);
        drop(file);
        assert_eq!(majors().last(), Some(&IRP_MJ_CLEANUP));
        release_one();
        drop(request.wait());
        assert_eq!(majors().last(), Some(&IRP_MJ_CLOSE));
    });
}

fn a_refused_create_is_not_closed() {
    with_device(DO_DIRECT_IO, |process| {
        CREATE.set(STATUS_DEVICE_NOT_READY);
        let refused = process.open(r"\\?\Probe", Access::READ).err();
        assert_eq!(refused, Some(Win32Error(21)));
        assert_eq!(majors(), [IRP_MJ_CREATE]);
        let missing = process.open(r"\\?\Nothing", Access::READ).err();
        assert_eq!(missing, Some(Win32Error::FILE_NOT_FOUND));
    });
}

fn direct_reads_have_an_mdl_over_the_user_buffer() {
    with_device(DO_DIRECT_IO, |process| {
        ANSWER.set(Answer::Fill(7, STATUS_SUCCESS, 5000));
        let file = open(process);
        let mut buffer = process.buffer(9000).expect("memory");
        assert!(buffer.pages().iter().any(|page| *page >= 1 << 32));
        buffer.fill(1);
        let read = file.read(1 << 40, buffer, 123..5123).wait();
        assert_eq!(read.result, Ok(5000));
        assert!(read.buffer[..123].iter().all(|byte| *byte == 1));
        assert!(read.buffer[123..5123].iter().all(|byte| *byte == 7));
        assert!(read.buffer[5123..].iter().all(|byte| *byte == 1));
        let expected = Seen {
            major: IRP_MJ_READ,
            length: 5000,
            offset: 1 << 40,
            flags: IRP_READ_OPERATION | IRP_DEFER_IO_COMPLETION,
            has_mdl: true,
            has_system_buffer: false,
            has_user_buffer: false,
        };
        assert_eq!(seen(IRP_MJ_READ), [expected]);
    });
}

fn pages_are_unlocked_when_the_irp_is_complete() {
    with_device(DO_DIRECT_IO, |process| {
        ANSWER.set(Answer::Hold);
        let file = open(process);
        let request = file.write(0, process.buffer(10).expect("memory"), 0..10);
        let mdl = HELD.with_borrow(|held| unsafe { (*held[0]).MdlAddress });
        let flags = u32::from(unsafe { (*mdl).MdlFlags }.cast_unsigned());
        assert_ne!(flags & MDL_PAGES_LOCKED, 0);
        release_one();
        // Memory with locked pages cannot be freed: bug check 0x76.
        drop(request.wait());
    });
}

fn an_empty_read_has_no_mdl() {
    with_device(DO_DIRECT_IO, |process| {
        let file = open(process);
        let read = file
            .read(0, process.buffer(10).expect("memory"), 3..3)
            .wait();
        assert_eq!(read.result, Ok(0));
        assert!(!seen(IRP_MJ_READ)[0].has_mdl);
    });
}

fn buffered_data_is_copied_back_as_far_as_information_says() {
    with_device(DO_BUFFERED_IO, |process| {
        ANSWER.set(Answer::Fill(9, STATUS_SUCCESS, 4));
        let file = open(process);
        let mut buffer = process.buffer(10).expect("memory");
        buffer.fill(1);
        let read = file.read(-2_i64 as u64, buffer, 2..10).wait();
        assert_eq!(read.result, Ok(4));
        assert_eq!(&read.buffer[..], [1, 1, 9, 9, 9, 9, 1, 1, 1, 1]);
        let seen = &seen(IRP_MJ_READ)[0];
        assert!(seen.has_system_buffer && !seen.has_mdl);
        assert_eq!(seen.offset, -2);
        let buffered = IRP_BUFFERED_IO | IRP_DEALLOCATE_BUFFER | IRP_INPUT_OPERATION;
        assert_eq!(seen.flags & buffered, buffered);
    });
}

fn errors_carry_no_data_and_warnings_do() {
    with_device(DO_BUFFERED_IO, |process| {
        let file = open(process);
        let read = |status| {
            ANSWER.set(Answer::Fill(9, status, 2));
            let mut buffer = process.buffer(2).expect("memory");
            buffer.fill(1);
            let read = file.read(0, buffer, 0..2).wait();
            (read.result, read.buffer.to_vec())
        };
        let more_data = Err(Win32Error(234));
        assert_eq!(read(STATUS_BUFFER_OVERFLOW), (more_data, vec![9, 9]));
        let failure = Err(Win32Error(31));
        assert_eq!(read(STATUS_UNSUCCESSFUL), (failure, vec![1, 1]));
    });
}

fn control_requests_travel_by_their_method() {
    with_device(DO_DIRECT_IO, |process| {
        let file = open(process);
        let control = |method: u32| {
            ANSWER.set(Answer::Fill(5, STATUS_SUCCESS, 6));
            let mut buffer = process.buffer(10).expect("memory");
            buffer.fill(1);
            let code = 0x0022_2000 | method;
            let done = file.control(code, buffer, 0..4, 4..10).wait();
            assert_eq!(done.result, Ok(6));
            done.buffer.to_vec()
        };
        for method in [METHOD_BUFFERED, METHOD_OUT_DIRECT, METHOD_NEITHER] {
            assert_eq!(control(method), [1, 1, 1, 1, 5, 5, 5, 5, 5, 5], "{method}");
        }
        let seen = seen(IRP_MJ_DEVICE_CONTROL);
        let transports = seen
            .iter()
            .map(|seen| (seen.has_system_buffer, seen.has_mdl, seen.has_user_buffer));
        assert_eq!(
            transports.collect::<Vec<_>>(),
            [
                (true, false, false),
                (true, true, false),
                (false, false, true)
            ]
        );
    });
}

fn handles_have_the_access_they_were_opened_with() {
    with_device(DO_DIRECT_IO, |process| {
        let file = process.open(r"\\?\Probe", Access::READ).expect("opened");
        let buffer = || process.buffer(4).expect("memory");
        let denied = Err(Win32Error::ACCESS_DENIED);
        assert_eq!(file.write(0, buffer(), 0..4).wait().result, denied);
        assert_eq!(file.read(0, buffer(), 0..4).wait().result, Ok(0));
        let needs_write = 0x0022_a000;
        let done = file.control(needs_write, buffer(), 0..0, 0..4).wait();
        assert_eq!(done.result, denied);
        assert_eq!(majors(), [IRP_MJ_CREATE, IRP_MJ_READ]);
    });
}

fn cancelling_calls_the_cancel_routine() {
    with_device(DO_DIRECT_IO, |process| {
        ANSWER.set(Answer::Hold);
        let file = open(process);
        let buffer = || process.buffer(4).expect("memory");
        let (first, second) = (file.read(0, buffer(), 0..4), file.read(0, buffer(), 0..4));
        second.cancel().expect("under way");
        assert_eq!(second.cancel(), Err(Win32Error::NOT_FOUND));
        let aborted = Err(Win32Error::OPERATION_ABORTED);
        assert_eq!(second.wait().result, aborted);
        assert!(!first.has_ended());
        file.cancel_all().expect("under way");
        assert_eq!(first.wait().result, aborted);
        assert_eq!(file.cancel_all(), Err(Win32Error::NOT_FOUND));
    });
}

fn a_process_that_ends_cancels_and_closes() {
    with_device(DO_DIRECT_IO, |process| {
        ANSWER.set(Answer::Hold);
        let file = open(process);
        let request = file.read(0, process.buffer(4).expect("memory"), 0..4);
        process.exit();
        assert!(request.has_ended());
        assert_eq!(majors().last(), Some(&IRP_MJ_CLEANUP));
        drop(request);
        let late = file
            .read(0, process.buffer(4).expect("memory"), 0..4)
            .wait();
        assert_eq!(late.result, Err(Win32Error::INVALID_HANDLE));
        drop(file);
        assert_eq!(majors().last(), Some(&IRP_MJ_CLOSE));
    });
}

fn waiting_for_any_of_several() {
    with_device(DO_DIRECT_IO, |process| {
        ANSWER.set(Answer::Hold);
        let file = open(process);
        let request = || file.read(0, process.buffer(4).expect("memory"), 0..4);
        let requests = [request(), request(), request()];
        requests[1].cancel().expect("under way");
        let [first, second, third] = &requests;
        assert_eq!(wait_any(&[first, second, third]), 1);
        machine_nt::sched::spawn("driver", machine_nt::sched::Kind::System, release_one);
        assert_eq!(wait_any(&[third, first]), 1);
    });
}

fn a_wait_ends_at_its_limit() {
    with_device(DO_DIRECT_IO, |process| {
        ANSWER.set(Answer::Hold);
        let file = open(process);
        let request = file.read(0, process.buffer(4).expect("memory"), 0..4);
        let (before, limit) = (user::now(), Duration::from_millis(70));
        assert!(!request.wait_for(limit));
        let waited = user::now() - before;
        assert!((limit..limit * 2).contains(&waited), "{waited:?}");
        release_one();
        assert!(request.wait_for(Duration::ZERO));
    });
}

fn the_last_of_several_handles_closes_the_file() {
    with_device(DO_DIRECT_IO, |process| {
        ANSWER.set(Answer::Hold);
        let file = open(process);
        let duplicate = process.duplicate(&file).expect("the process lives");
        let request = file.read(0, process.buffer(4).expect("memory"), 0..4);
        drop(file);
        assert!(!majors().contains(&IRP_MJ_CLEANUP));
        duplicate.cancel_all().expect("under way");
        let aborted = Err(Win32Error::OPERATION_ABORTED);
        assert_eq!(request.wait().result, aborted);
        drop(duplicate);
        let expected = [IRP_MJ_CREATE, IRP_MJ_READ, IRP_MJ_CLEANUP, IRP_MJ_CLOSE];
        assert_eq!(majors(), expected);
    });
}

fn a_thread_that_ends_cancels_its_own_requests() {
    with_device(DO_DIRECT_IO, |process| {
        ANSWER.set(Answer::Hold);
        let process = Rc::new(process.create_process());
        let file = Rc::new(open(&process));
        let ours = file.read(0, process.buffer(4).expect("memory"), 0..4);
        let (user, handle) = (Rc::clone(&process), Rc::clone(&file));
        let thread = process.spawn("reader", move || {
            handle.read(0, user.buffer(4).expect("memory"), 0..4)
        });
        let theirs = thread.join();
        assert!(theirs.has_ended() && !ours.has_ended());
        release_one();
        assert_eq!(ours.wait().result, Ok(0));
    });
}

/// The I/O manager copies as many bytes as the driver claims, from a pool block that does not have them.
fn information_beyond_the_buffer() {
    with_device(DO_BUFFERED_IO, |process| {
        ANSWER.set(Answer::Fill(9, STATUS_SUCCESS, 100));
        let file = open(process);
        drop(
            file.read(0, process.buffer(10).expect("memory"), 0..10)
                .wait(),
        );
    });
}
