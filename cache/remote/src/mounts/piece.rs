//! Cuts content into pieces where the content says so.

use std::io::{self, Read};

/// No piece but a file's last is smaller.
const LEAST: usize = 32 << 10;
/// No piece is larger.
pub(super) const MOST: usize = 512 << 10;
/// A cut comes where these bits of the rolling hash are zero: every 128 KiB on average.
const MASK: u64 = ((1 << 17) - 1) << 40;

/// What each byte adds to the rolling hash. Any table of random numbers will do, but always the same.
const GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state: u64 = 0x7262_7569_6c64;
    let mut at = 0;
    while at < 256 {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = mixed ^ (mixed >> 31);
        at += 1;
    }
    table
}

/// The pieces of what a reader gives, one after the other.
pub(super) struct Pieces<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
}

impl<R: Read> Pieces<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            start: 0,
            ended: false,
        }
    }

    /// The next piece; `None` at the end. An empty input has no pieces.
    pub(super) fn next_piece(&mut self) -> io::Result<Option<&[u8]>> {
        self.fill()?;
        let rest = &self.buffer[self.start..];
        if rest.is_empty() {
            return Ok(None);
        }
        let length = cut(rest);
        let piece = self.start..self.start + length;
        self.start += length;
        Ok(Some(&self.buffer[piece]))
    }

    /// Has the largest possible piece in the buffer, or all there is.
    fn fill(&mut self) -> io::Result<()> {
        if self.ended || self.buffer.len() - self.start >= MOST {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let want = 4 * MOST - self.buffer.len();
        let read = self
            .input
            .by_ref()
            .take(want as u64)
            .read_to_end(&mut self.buffer)?;
        self.ended = read < want;
        Ok(())
    }
}

/// How long the first piece of `bytes` is.
fn cut(bytes: &[u8]) -> usize {
    let most = bytes.len().min(MOST);
    let mut hash = 0_u64;
    // The hash remembers no more than 64 bytes.
    for at in LEAST.saturating_sub(64)..most {
        hash = (hash << 1).wrapping_add(GEAR[usize::from(bytes[at])]);
        if at >= LEAST && hash & MASK == 0 {
            return at;
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Pieces::new(bytes);
        let mut all = Vec::new();
        while let Some(piece) = pieces.next_piece().unwrap() {
            all.push(piece.to_vec());
        }
        all
    }

    #[test]
    fn pieces_are_all_of_it_and_of_the_right_size() {
        for length in [0, 1, LEAST, LEAST + 1, MOST, 5 << 20] {
            let bytes = noise(length, 7);
            let pieces = pieces(&bytes);
            assert_eq!(pieces.concat(), bytes);
            let (last, others) = pieces
                .split_last()
                .map_or((0, &[][..]), |(last, others)| (last.len(), others));
            assert!(last <= MOST);
            assert!(others.iter().all(|it| (LEAST..=MOST).contains(&it.len())));
        }
    }

    #[test]
    fn an_insertion_changes_the_pieces_around_it_and_no_others() {
        let before = noise(8 << 20, 1);
        let mut after = before.clone();
        after.splice(3_000_000..3_000_000, *b"one more line\n");
        let known: HashSet<Vec<u8>> = pieces(&before).into_iter().collect();
        let changed = pieces(&after);
        let new: Vec<_> = changed.iter().filter(|it| !known.contains(*it)).collect();
        assert!(changed.len() > 20);
        assert!(new.len() <= 2, "{} of {} are new", new.len(), changed.len());
    }

    #[test]
    fn content_without_any_variety_is_cut_all_the_same() {
        assert_eq!(pieces(&vec![0; 3 * MOST]).len(), 3);
    }
}
