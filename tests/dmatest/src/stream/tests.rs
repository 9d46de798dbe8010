use std::io::{Cursor, SeekFrom};

use super::*;
use crate::exit;
use crate::fake::{Fake, StreamFault};
use crate::pattern::Pattern;

/// Of a length that is no multiple of a period.
fn tune() -> Vec<u8> {
    let mut tune = vec![0; 3 * PERIOD + 5];
    Pattern::Random(1).fill(0, &mut tune);
    tune
}

fn song(tune: Vec<u8>) -> Song<Cursor<Vec<u8>>> {
    Song::new(Cursor::new(tune), Path::new("tune"))
}

/// Plays for the time of so many periods.
fn play_periods(fake: &Fake, periods: u32) -> Result<Streamed, Error> {
    let time = period_time(LINE_PERIOD) * periods;
    stream(fake, &mut song(tune()), time, LINE_PERIOD)
}

/// What 12 periods come to on a device with this fault.
fn with(fault: StreamFault) -> Streamed {
    play_periods(&Fake::streaming(Some(fault)), 12).expect("it streams")
}

/// What the command prints, and how it ends.
fn command(fake: &Fake, path: &Path) -> (String, Result<(), Error>) {
    let options = StreamOptions {
        file: path.to_owned(),
        time: 100,
        line_period: LINE_PERIOD,
    };
    let mut out = Vec::new();
    let result = run(fake, &options, &mut out);
    (String::from_utf8(out).expect("ASCII"), result)
}

fn file(contents: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(&file, contents).expect("written");
    file
}

#[test]
fn the_file_is_played_over_and_over_for_the_time() {
    let fake = Fake::streaming(None);
    let streamed = play_periods(&fake, 12).expect("it streams");
    assert_eq!(streamed.periods, 12);
    assert!(streamed.verified(), "{streamed:?}");
    let streams = fake.streams();
    let expected: Vec<u8> = tune().into_iter().cycle().take(12 * PERIOD).collect();
    assert_eq!(crate::pattern::difference(&expected, &streams.heard), None);
    assert_eq!(streams.heard.len(), expected.len());
    assert_eq!((streams.started, streams.stopped), (1, 1));
}

#[test]
fn a_period_that_comes_back_different_is_counted() {
    let streamed = with(StreamFault::Flip(7));
    assert_eq!((streamed.periods, streamed.different), (12, 1));
    assert!(!streamed.verified());
    // Silence too, before the first of the file comes back.
    assert_eq!(with(StreamFault::Flip(2)).different, 1);
}

/// What is missed is not compared with what comes instead.
#[test]
fn missed_periods_are_counted_and_not_called_different() {
    let streamed = with(StreamFault::Miss(6));
    assert_eq!((streamed.missed, streamed.different), (2, 0));
    // Nothing was given to be played in their place.
    assert_eq!(streamed.periods, 12 - 2);
    assert!(!streamed.verified());
}

#[test]
fn glitches_are_counted() {
    let streamed = with(StreamFault::Glitch(3));
    assert_eq!(
        (streamed.glitches, streamed.different, streamed.missed),
        (1, 0, 0)
    );
    assert!(!streamed.verified());
}

#[test]
fn a_device_that_goes_away_ends_it_and_the_stream_is_stopped() {
    let fake = Fake::streaming(Some(StreamFault::Gone(5)));
    let ended = play_periods(&fake, 12);
    let Err(Error::Control { name, error }) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(
        (name, error),
        ("STREAM_EXCHANGE", crate::Win32Error::DEVICE_REMOVED)
    );
    let streams = fake.streams();
    assert_eq!((streams.started, streams.stopped), (1, 1));
}

#[test]
fn answers_that_cannot_be_are_errors() {
    let short = play_periods(&Fake::streaming(Some(StreamFault::Short)), 3);
    assert!(matches!(short, Err(Error::ShortAnswer { .. })), "{short:?}");
    let position = play_periods(&Fake::streaming(Some(StreamFault::Position)), 3);
    let Err(Error::Mismatch(text)) = position else {
        panic!("{position:?}");
    };
    assert!(text.contains("a position that cannot be"), "{text}");
}

#[test]
fn the_report_has_every_count_and_a_loss_is_an_error_after_it() {
    let tune = file(&tune());
    let (text, result) = command(&Fake::streaming(None), tune.path());
    result.expect("nothing is lost");
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let names: Vec<&str> = names.collect();
    assert_eq!(
        names,
        ["file", "periods", "missed", "different", "glitches"]
    );
    assert!(text.contains("periods    20\n"), "{text}");

    let (text, result) = command(&Fake::streaming(Some(StreamFault::Glitch(3))), tune.path());
    assert!(text.ends_with("glitches   1\n"), "{text}");
    let error = result.expect_err("a glitch");
    assert_eq!(exit::code(&error), exit::DIFFERENT);
    assert!(error.to_string().ends_with("with 1 glitches"), "{error}");
}

#[test]
fn what_cannot_be_played_is_refused_before_anything_is_started() {
    let empty = file(&[]);
    let missing = Path::new("/no/such/file");
    for (path, reason) in [
        (empty.path(), "nothing to play"),
        (missing, "o such file"),
        (&std::env::temp_dir(), "this is a directory"),
    ] {
        let fake = Fake::streaming(None);
        let error = command(&fake, path).1.expect_err("refused");
        assert_eq!(exit::code(&error), exit::SURROUNDINGS);
        let text = error.to_string();
        assert!(text.contains(reason), "{text}");
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert_eq!(fake.streams().started, 0);
    }
}

#[test]
fn a_device_without_streams_says_so() {
    let (text, result) = command(&Fake::new(4096, 4096), file(&tune()).path());
    let error = result.expect_err("edu");
    assert!(matches!(error, Error::NoStream));
    assert_eq!(exit::code(&error), exit::REQUEST);
    assert!(text.is_empty());
}

/// A file that is cut short while it is played, and one that breaks.
struct Failing {
    good: usize,
    error: Option<io::ErrorKind>,
}

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.good == 0 {
            return self.error.map_or(Ok(0), |kind| Err(kind.into()));
        }
        let length = buffer.len().min(self.good);
        self.good -= length;
        Ok(length)
    }
}

impl Seek for Failing {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Ok(0)
    }
}

#[test]
fn a_file_that_fails_while_it_is_played_ends_the_stream() {
    for error in [None, Some(io::ErrorKind::Other)] {
        let fake = Fake::streaming(None);
        let good = 3 * PERIOD;
        let mut song = Song::new(Failing { good, error }, Path::new("tune"));
        let ended = stream(&fake, &mut song, Duration::from_secs(1), LINE_PERIOD);
        assert!(matches!(ended, Err(Error::File { .. })), "{ended:?}");
        let streams = fake.streams();
        assert_eq!((streams.heard.len(), streams.stopped), (good, 1));
    }
}
