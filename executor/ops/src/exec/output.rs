//! What a process writes, passed on as it comes, up to a limit.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use solve::progress::Stream;

use crate::{Context, LogLimits};

const BUFFER: usize = 32 << 10;

/// How much of the end of what was left out is told after all, since that is where a failure is explained: 8 KiB.
const TAIL: usize = 8 << 10;

/// What a step writes as far as it is within the limits, and the end of each part that is not.
struct Clipped<'a> {
    log: &'a (dyn Fn(Stream, &[u8]) + Sync),
    limits: LogLimits,
    /// How many bytes were passed on at once.
    passed: u64,
    /// Whether what was passed on ended amid a line.
    amid: bool,
    /// What came last of what was not passed on.
    tail: VecDeque<(Stream, u8)>,
    /// How many bytes were neither passed on nor kept.
    lost: u64,
    /// Whether the limit that counted last was that of the speed.
    by_speed: bool,
}

impl<'a> Clipped<'a> {
    fn new(log: &'a (dyn Fn(Stream, &[u8]) + Sync), limits: LogLimits) -> Self {
        Self {
            log,
            limits,
            passed: 0,
            amid: false,
            tail: VecDeque::new(),
            lost: 0,
            by_speed: false,
        }
    }

    /// Takes what came that long after the process began.
    fn take(&mut self, stream: Stream, bytes: &[u8], since: Duration) {
        let left = self.left(since);
        let (now, later) = bytes.split_at(left.min(bytes.len()));
        if let Some(last) = now.last() {
            self.tell_kept();
            (self.log)(stream, now);
            self.amid = *last != b'\n';
            self.passed += now.len() as u64;
        }
        // What would be pushed out again at once is not pushed in.
        let beyond = later.len().saturating_sub(TAIL);
        let push_out = (self.tail.len() + later.len() - beyond).saturating_sub(TAIL);
        self.lost += (beyond + push_out) as u64;
        self.tail.drain(..push_out);
        self.tail
            .extend(later[beyond..].iter().map(|byte| (stream, *byte)));
    }

    /// How many bytes may be passed on now.
    fn left(&mut self, since: Duration) -> usize {
        let size = self.limits.size.unwrap_or(u64::MAX);
        let speed = self.limits.speed.unwrap_or(u64::MAX);
        let by_now = speed.saturating_mul(since.as_secs().saturating_add(1));
        self.by_speed = by_now < size;
        usize::try_from(size.min(by_now).saturating_sub(self.passed)).unwrap_or(usize::MAX)
    }

    /// Tells what was kept, and how much is missing before it.
    fn tell_kept(&mut self) {
        if self.lost > 0 {
            // The first line that is kept may lack its beginning.
            let cut = self.tail.iter().position(|(_, byte)| *byte == b'\n');
            let cut = cut.map_or(0, |at| at + 1);
            self.lost += self.tail.drain(..cut).count() as u64;
            let start = if self.amid { "\n" } else { "" };
            let (limit, unit) = match self.limits {
                LogLimits { speed, .. } if self.by_speed => (speed, "/s"),
                LogLimits { size, .. } => (size, ""),
            };
            let line = format!(
                "{start}[output clipped, log limit {}{unit} reached: {} bytes are left out]\n",
                super::bytes(limit.unwrap_or(u64::MAX)),
                self.lost
            );
            (self.log)(Stream::Stderr, line.as_bytes());
        }
        self.lost = 0;
        let tail: Vec<(Stream, u8)> = std::mem::take(&mut self.tail).into();
        for run in tail.chunk_by(|a, b| a.0 == b.0) {
            let bytes: Vec<u8> = run.iter().map(|it| it.1).collect();
            (self.log)(run[0].0, &bytes);
        }
    }
}

/// Passes on what comes through the pipes (output, errors), until the last process has let go of both.
pub(crate) fn pass_on(pipes: [Option<OwnedFd>; 2], context: &Context<'_>) -> io::Result<()> {
    let [output, errors] = pipes;
    let mut open: Vec<(Stream, OwnedFd)> = [(Stream::Stdout, output), (Stream::Stderr, errors)]
        .into_iter()
        .filter_map(|(stream, pipe)| Some((stream, pipe?)))
        .collect();
    let mut buffer = vec![0; BUFFER];
    let mut clipped = Clipped::new(context.log, context.log_limits);
    let begin = Instant::now();
    while !open.is_empty() {
        let mut polled: Vec<PollFd<'_>> = open
            .iter()
            .map(|(_, pipe)| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN))
            .collect();
        match poll(&mut polled, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let ready: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        let mut failure = None;
        open.retain(|(stream, pipe)| {
            if ready.next() != Some(true) {
                return true;
            }
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => false,
                Ok(length) => {
                    clipped.take(*stream, &buffer[..length], begin.elapsed());
                    true
                }
                Err(Errno::INTR) => true,
                Err(error) => {
                    failure = Some(error);
                    false
                }
            }
        });
        if let Some(error) = failure {
            return Err(error.into());
        }
    }
    clipped.tell_kept();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const LIMIT: usize = 2 << 20;

    /// What is told of output that comes in such pieces.
    fn told(pieces: impl IntoIterator<Item = (Stream, Vec<u8>)>) -> Vec<(Stream, String)> {
        told_of(pieces, Some(LIMIT as u64))
    }

    fn told_of(
        pieces: impl IntoIterator<Item = (Stream, Vec<u8>)>,
        limit: Option<u64>,
    ) -> Vec<(Stream, String)> {
        let seen = Mutex::new(Vec::<(Stream, String)>::new());
        let log = |stream: Stream, bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            seen.lock().unwrap().push((stream, text));
        };
        let limits = LogLimits {
            size: limit,
            speed: None,
        };
        let mut clipped = Clipped::new(&log, limits);
        for (stream, bytes) in pieces {
            clipped.take(stream, &bytes, Duration::ZERO);
        }
        clipped.tell_kept();
        seen.into_inner().unwrap()
    }

    fn line(number: usize) -> Vec<u8> {
        format!("{number:07}\n").into_bytes()
    }

    #[test]
    fn what_is_within_the_limit_is_told_as_it_comes() {
        let pieces = [
            (Stream::Stdout, b"one\n".to_vec()),
            (Stream::Stderr, b"two".to_vec()),
        ];
        let expected = [
            (Stream::Stdout, "one\n".to_owned()),
            (Stream::Stderr, "two".to_owned()),
        ];
        assert_eq!(told(pieces), expected);
    }

    #[test]
    fn of_a_flood_the_beginning_and_the_end_are_told_and_how_much_is_missing() {
        let lines = 3 * LIMIT / 8;
        for size in [1, 7, 4096] {
            let bytes: Vec<u8> = (0..lines).flat_map(line).collect();
            let pieces = bytes
                .chunks(size * 8)
                .map(|it| (Stream::Stdout, it.to_vec()));
            let text: String = told(pieces).into_iter().map(|it| it.1).collect();
            let (first, rest) = text.split_at(LIMIT);
            assert!(first.starts_with("0000000\n0000001\n") && first.ends_with('\n'));
            let (note, tail) = rest.split_once('\n').unwrap();
            let lost = 2 * LIMIT - tail.len();
            let expected =
                format!("[output clipped, log limit 2MiB reached: {lost} bytes are left out]");
            assert_eq!(note, expected);
            assert!(tail.len() > TAIL / 2 && tail.len() <= TAIL);
            assert!(text.ends_with(std::str::from_utf8(&line(lines - 1)).unwrap()));
        }
    }

    #[test]
    fn a_limit_is_what_was_asked_for_or_none() {
        let pieces = || (0..20_000).map(line).map(|it| (Stream::Stdout, it));
        let text = |limit| -> String {
            told_of(pieces(), limit)
                .into_iter()
                .map(|it| it.1)
                .collect()
        };
        assert_eq!(text(None).len(), 160_000);
        let short = text(Some(1024));
        assert!(short.contains("[output clipped, log limit 1KiB reached: "));
        assert!(short.len() < 12 << 10, "{}", short.len());
    }

    #[test]
    fn a_little_more_than_the_limit_is_told_whole() {
        let pieces = [
            (Stream::Stdout, vec![b'x'; LIMIT]),
            (Stream::Stderr, b"why it failed\n".to_vec()),
        ];
        let told = told(pieces);
        assert_eq!(told[1], (Stream::Stderr, "why it failed\n".to_owned()));
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn what_comes_too_fast_is_left_out_until_the_next_second() {
        let text = Mutex::new(String::new());
        let log = |_: Stream, bytes: &[u8]| {
            text.lock()
                .unwrap()
                .push_str(std::str::from_utf8(bytes).unwrap());
        };
        let limits = LogLimits {
            size: Some(1 << 20),
            speed: Some(16 << 10),
        };
        let mut clipped = Clipped::new(&log, limits);
        let mut lines = (0..).map(line);
        for second in 0..3 {
            let bytes: Vec<u8> = lines.by_ref().take(8_000).flatten().collect();
            clipped.take(Stream::Stdout, &bytes, Duration::from_secs(second));
        }
        clipped.tell_kept();
        let text = text.into_inner().unwrap();
        let notes: Vec<&str> = text.lines().filter(|it| it.starts_with('[')).collect();
        let note = "[output clipped, log limit 16KiB/s reached: 39432 bytes are left out]";
        assert_eq!(notes, [note; 3]);
        // Each second begins with its first lines, after the last ones of the second before.
        for line in [
            "0000000",
            "0002047",
            "0007999\n0008000",
            "0010047",
            "0015999\n0016000",
            "0023999",
        ] {
            assert!(text.contains(line), "{line}");
        }
        assert!(!text.contains("0002048"));
    }
}
