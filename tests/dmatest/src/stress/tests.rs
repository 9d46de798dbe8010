use super::*;
use crate::error::Win32Error;
use crate::exit;
use crate::fake::{Fake, Fault};

fn options(change: impl FnOnce(&mut StressOptions)) -> StressOptions {
    let mut options = StressOptions {
        mode: crate::mode::ModeOptions::default(),
        requests: None,
        duration: None,
        depth: 8,
        threads: 4,
        sizes: Sizes::default(),
        cancel: 0,
        reset: 0,
        data_seed: 1,
        json: true,
        tolerance: Tolerance {
            expect_failures: false,
            limit: 1,
        },
    };
    change(&mut options);
    options
}

fn stress(fake: &Fake, options: &StressOptions) -> (Report, Result<(), Error>) {
    measure(fake, &fake.info(), options).expect("the device opens")
}

#[test]
fn a_sound_device_passes() {
    for (memory, largest) in [(4095, 4095), (100_000, 3000), (3, 3)] {
        let fake = Fake::new(memory, largest);
        let (report, verdict) = stress(&fake, &options(|_| {}));
        verdict.expect("sound");
        assert!(report.tally.requests >= REQUESTS, "{report:?}");
        assert_eq!(report.tally.completed, report.tally.requests);
        let driver = report.driver.expect("counted");
        assert_eq!(driver.completed, report.tally.completed);
    }
}

#[test]
fn cancelling_and_resetting_a_sound_device_passes() {
    for seed in 0..10 {
        let options = options(|options| {
            options.cancel = 40;
            options.reset = 5;
            options.data_seed = seed;
        });
        let (report, verdict) = stress(&Fake::new(4095, 4095), &options);
        verdict.expect("sound");
        assert!(report.tally.cancelled > 50, "{report:?}");
        assert!(report.resets > 10, "{report:?}");
        assert_eq!(report.tally.failed, 0);
    }
}

#[test]
fn a_duration_ends_by_the_devices_clock() {
    let (report, verdict) = stress(
        &Fake::new(4095, 4095),
        &options(|options| options.duration = Some(2)),
    );
    verdict.expect("sound");
    assert!((2.0..2.5).contains(&report.seconds), "{report:?}");
    assert!(report.tally.requests > 1500, "a request takes 1 ms");
}

#[test]
fn every_fault_is_found() {
    let options = options(|options| options.cancel = 30);
    for fault in [
        Fault::FlipBit { at: 2000 },
        Fault::ReadNothing,
        Fault::OneMore,
        Fault::ReadOneMore,
        Fault::CancelledShort,
        Fault::CancelledSpills,
        Fault::CancelledScribbles,
        Fault::CancelledReadsWrong,
        Fault::CancelUncounted,
        Fault::CancelCountedAsDone,
        Fault::Lose(500),
        Fault::Stall(500),
    ] {
        let (_, verdict) = stress(&Fake::new(4095, 4095).with(fault), &options);
        let error = verdict.expect_err("a fault");
        assert_eq!(exit::code(&error), exit::DIFFERENT, "{fault:?}: {error}");
    }
}

#[test]
fn failures_are_counted_and_make_the_exit_code() {
    let fake = Fake::new(4095, 4095).with(Fault::FailSome(Win32Error::IO_DEVICE));
    let options = options(|options| options.cancel = 10);
    let (report, verdict) = stress(&fake, &options);
    let error = verdict.expect_err("failures");
    assert_eq!(exit::code(&error), exit::REQUEST);
    assert!(report.tally.failed > 50 && !report.gave_up);
    let mut text = Vec::new();
    report
        .print(false, &mut text)
        .expect("a Vec takes everything");
    let text = String::from_utf8(text).expect("ASCII");
    assert!(text.contains("requests: the device reported an error (ERROR_IO_DEVICE, 1117)"));
    let expected = Tolerance {
        expect_failures: true,
        ..options.tolerance
    };
    expected.judge(Err(error)).expect("expected");
    let wrong = Error::Mismatch("wrong data".to_owned());
    let short = Error::ShortAnswer {
        name: "GET_INFO",
        length: 0,
    };
    for error in [wrong, short] {
        expected.judge(Err(error)).expect_err("expected by nobody");
    }
}

#[test]
fn a_dead_device_is_given_up() {
    let fake = Fake::new(4095, 4095).with(Fault::Fail(Win32Error::DEVICE_REMOVED));
    let (report, verdict) = stress(&fake, &options(|options| options.duration = Some(3600)));
    assert!(matches!(verdict, Err(Error::RequestsFailed { .. })));
    assert!(report.gave_up && report.seconds < 100.0, "{report:?}");
}
