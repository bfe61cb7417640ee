//! Bytes that nothing makes shorter: what is packed or encrypted already. They cost a packer the most time,
//! and are stored as they are instead.
//!
//! Numbers are whole, so that every machine sees the same.

/// Bytes that are looked at together.
const CELL: usize = 16 << 10;
/// Fewer cells in a row are packed with what is around them.
const FEWEST: usize = 2;
/// How many hundredths of what would be even the squares of the counts may have, less even by chance than more
/// bytes would be.
const UNEVEN: u64 = 110;
/// Of so many bytes these many are counted.
const COUNTED: (usize, usize) = (256, 64);
/// The same as [`UNEVEN`] for a sample.
const UNEVEN_SAMPLE: u64 = 160;
/// How long a sample is, which is taken in the middle.
const SAMPLE: usize = 1024;
/// From so many places on at which a cell says again what it said, it is no noise.
const REPEATS: u32 = 16;
/// Every so many bytes a place is remembered, and as many places in a row are looked up of each so many:
/// whatever is repeated at the length of both is seen.
const STEP: usize = 16;
const LOOKED_UP: usize = 64;
const TABLE: usize = 2048;

/// Bytes in a row of which all are noise, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) length: usize,
    pub(super) is_noise: bool,
}

/// Bytes as runs, which together are as long as they.
pub(super) fn runs(bytes: &[u8]) -> Vec<Run> {
    let cells = bytes.chunks(CELL).map(|cell| Run {
        length: cell.len(),
        is_noise: is_noise(cell),
    });
    let long_enough = |run: Run| Run {
        is_noise: run.is_noise && run.length >= FEWEST * CELL,
        ..run
    };
    joined(joined(cells).into_iter().map(long_enough))
}

/// The same bytes, with runs of one kind behind each other as one.
fn joined(runs: impl Iterator<Item = Run>) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::new();
    for run in runs {
        match joined.last_mut() {
            Some(last) if last.is_noise == run.is_noise => last.length += run.length,
            _ => joined.push(run),
        }
    }
    joined
}

/// Whether all values are about equally many in a whole cell, and nothing is said twice. Most of what is
/// no noise is known by a sample.
fn is_noise(cell: &[u8]) -> bool {
    cell.len() == CELL
        && is_even([&cell[CELL / 2..CELL / 2 + SAMPLE]], UNEVEN_SAMPLE)
        && is_even(counted(cell), UNEVEN)
        && repeats(cell) < REPEATS
}

/// The bytes of a cell that are counted: as many of each place of a record as of any other.
fn counted(cell: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (of, these) = COUNTED;
    cell.chunks_exact(of).map(move |it| &it[..these])
}

fn is_even<'a>(parts: impl IntoIterator<Item = &'a [u8]>, most: u64) -> bool {
    let mut counts = [0u32; 256];
    let mut length = 0;
    for part in parts {
        length += part.len() as u64;
        for byte in part {
            counts[usize::from(*byte)] += 1;
        }
    }
    let squares = counts.iter().map(|it| u64::from(*it) * u64::from(*it));
    squares.sum::<u64>() * 100 <= length * length / 256 * most
}

/// At how many places a cell goes on as it did at a place that is remembered.
fn repeats(cell: &[u8]) -> u32 {
    let mut table = [0u64; TABLE];
    let mut count = 0;
    let mut words = cell.windows(8).enumerate();
    while let Some((place, word)) = words.next() {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        let slot = (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as usize;
        count += u32::from(table[slot] == word);
        if place % STEP == 0 {
            table[slot] = word;
        }
        if place % LOOKED_UP >= STEP {
            words.nth(STEP - 2);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of which each depends on all before.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn text(length: usize) -> Vec<u8> {
        b"what can be said in fewer words "
            .iter()
            .copied()
            .cycle()
            .take(length)
            .collect()
    }

    fn check(bytes: &[u8], expected: &[(usize, bool)]) {
        let found = runs(bytes);
        let found: Vec<_> = found
            .iter()
            .map(|it| (it.length / CELL, it.is_noise))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(
            runs(bytes).iter().map(|it| it.length).sum::<usize>(),
            bytes.len()
        );
    }

    #[test]
    fn noise_is_told_from_what_gets_shorter() {
        check(&[], &[]);
        check(&noise(4 * CELL), &[(4, true)]);
        check(&text(4 * CELL), &[(4, false)]);
        check(&[0; 4 * CELL], &[(4, false)]);
        // Text of sixty-four letters has six bits a byte.
        let letters: Vec<u8> = noise(4 * CELL).iter().map(|it| it & 63).collect();
        check(&letters, &[(4, false)]);
        let both = [noise(3 * CELL), text(5 * CELL), noise(2 * CELL)].concat();
        check(&both, &[(3, true), (5, false), (2, true)]);
    }

    #[test]
    fn a_little_noise_is_packed_with_what_is_around_it() {
        let little = [text(2 * CELL), noise(CELL), text(2 * CELL), noise(CELL - 1)].concat();
        check(&little, &[(5, false)]);
    }

    #[test]
    fn noise_that_is_said_again_is_none() {
        let again = noise(1000).repeat(4 * CELL / 1000 + 1);
        check(&again[..4 * CELL], &[(4, false)]);
        let half = noise(CELL / 2).repeat(8);
        check(&half, &[(4, false)]);
    }
}
