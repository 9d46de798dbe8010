//! The harness on itself: every kind of end a test can have.

use std::process::{ExitCode, exit};

use harness::{BUG_CHECK_EXIT, MACHINE_STOP_EXIT, Suite, bug_check, machine_stop};

fn main() -> ExitCode {
    Suite::new()
        .passes("each_test_has_its_own_process", || {
            assert!(std::env::args().any(|argument| argument == "each_test_has_its_own_process"));
        })
        .stops("a_bug_check_is_recognised", bug_check(0x10D).p1(3), || {
            eprintln!("*** STOP: 0x0000010D (0x3, 0x10, 0x1, 0x0) WDF_VIOLATION");
            exit(BUG_CHECK_EXIT);
        })
        .stops(
            "a_machine_stop_is_recognised",
            machine_stop("WdfFoo"),
            || {
                eprintln!("*** MACHINE STOP: unimplemented: WdfFoo");
                exit(MACHINE_STOP_EXIT);
            },
        )
        .main()
}
