//! Tabled asymmetric numeral systems: symbols of known frequencies at close to their entropy.
//!
//! Bit string, least significant bit first: the table, then the first states of up to four lanes (`log`
//! bits each), then for each symbol but the last of each lane the bits that lead to its lane's next
//! state; zeros up to a whole byte. Symbol `i` belongs to lane `i % 4`: four states advance side by side,
//! so that a decoder waits for memory once for four symbols.
//!
//! Table: lowest symbol (8 bits), then the frequencies of it and the following symbols until they add up
//! to `2^log`, each as an Exp-Golomb number of order 2 (the quotient by 4, plus 1, in Elias' gamma code;
//! then 2 bits).
//!
//! Sources: Duda, "Asymmetric numeral systems", 2013; the step of the spread is that of Collet's FSE
//! (RFC 8878, 4.1.1).

use crate::ChunkError;
use crate::bits::{BitSink, load, mask, width_of};

/// Smallest and largest table, as powers of two.
pub(crate) const LOG_MIN: u32 = 5;
pub(crate) const LOG_MAX: u32 = 9;
const LANES: usize = 4;
const STATES_MAX: usize = 1 << LOG_MAX;
const GOLOMB_ORDER: u32 = 2;
const SYMBOL_BITS: u32 = 8;
/// States of an encoder are below twice the largest table; at most `LOG_MAX` bits of one are written.
const MOVE_STATE_BITS: u32 = LOG_MAX + 1;

/// How often each symbol occurs, in parts of `2^log`.
#[derive(Debug, Clone)]
pub(crate) struct Frequencies {
    log: u32,
    lowest: u8,
    /// From the lowest symbol to the highest; both occur.
    parts: Vec<u16>,
}

impl Frequencies {
    /// Fits `counts` by symbol (at most 256, one not 0); `None` if there are too many for the table.
    pub(crate) fn fit(counts: &[u32], log: u32) -> Option<Self> {
        let lowest = counts.iter().position(|count| *count > 0)?;
        let highest = counts.iter().rposition(|count| *count > 0)?;
        let counts = &counts[lowest..=highest];
        let size = 1_i32 << log;
        let total: u32 = counts.iter().sum();
        let scale = f64::from(size) / f64::from(total);
        let part = |count: u32| if count == 0 { 0 } else { ((f64::from(count) * scale).round() as u16).max(1) };
        let mut parts: Vec<u16> = counts.iter().map(|count| part(*count)).collect();
        if parts.iter().filter(|part| **part > 0).count() > STATES_MAX.min(1 << log) / 2 {
            return None;
        }
        let mut missing = size - parts.iter().map(|part| i32::from(*part)).sum::<i32>();
        // What rounding left goes where it gains the most bits, or comes from where it costs the fewest.
        let gain = |parts: &[u16], index: usize| f64::from(counts[index]) / f64::from(parts[index]);
        while missing != 0 {
            let step = missing.signum();
            let of = |a: &usize, b: &usize| gain(&parts, *a).total_cmp(&gain(&parts, *b));
            let open = (0..parts.len()).filter(|index| parts[*index] > u16::from(step < 0));
            let index = if step > 0 { open.max_by(of) } else { open.min_by(of) }?;
            parts[index] = (i32::from(parts[index]) + step) as u16;
            missing -= step;
        }
        Some(Self { log, lowest: lowest as u8, parts })
    }

    pub(crate) const fn log(&self) -> u32 {
        self.log
    }

    /// About how many bits symbols with these counts take, table and states included.
    pub(crate) fn cost_bits(&self, counts: &[u32]) -> usize {
        let counts = &counts[usize::from(self.lowest)..];
        let of_symbols: f32 = self
            .parts
            .iter()
            .zip(counts)
            .filter(|(part, _)| **part > 0)
            .map(|(part, count)| *count as f32 * (self.log as f32 - f32::from(*part).log2()))
            .sum();
        let of_table: u32 = self.parts.iter().map(|part| part_bits(*part)).sum();
        of_symbols as usize + (of_table + fixed_bits(self.log)) as usize
    }

    fn write(&self, sink: &mut BitSink<'_>) {
        sink.push(u64::from(self.lowest), SYMBOL_BITS);
        for part in &self.parts {
            let quotient = u64::from(*part >> GOLOMB_ORDER) + 1;
            let width = width_of(quotient);
            // Gamma, least significant bit first: zeros for the width, a one, then the rest.
            sink.push(1 << (width - 1), width);
            sink.push(quotient, width - 1);
            sink.push(u64::from(*part), GOLOMB_ORDER);
        }
    }

    fn read(bytes: &[u8], bit: &mut usize, log: u32) -> Result<Self, ChunkError> {
        let out_of_bounds = ChunkError::OutOfBounds { what: "frequency" };
        let lowest = load(bytes, *bit) as u8;
        *bit += SYMBOL_BITS as usize;
        let mut left = 1_u64 << log;
        let mut parts = Vec::with_capacity(16);
        while left > 0 {
            let word = load(bytes, *bit);
            let zeros = word.trailing_zeros();
            if zeros > LOG_MAX || parts.len() + usize::from(lowest) > usize::from(u8::MAX) {
                return Err(out_of_bounds);
            }
            let quotient = (1 << zeros) + (word >> (zeros + 1) & mask(zeros)) - 1;
            let part = (quotient << GOLOMB_ORDER) + (word >> (2 * zeros + 1) & mask(GOLOMB_ORDER));
            left = left.checked_sub(part).ok_or(out_of_bounds)?;
            *bit += (2 * zeros + 1 + GOLOMB_ORDER) as usize;
            parts.push(part as u16);
        }
        Ok(Self { log, lowest, parts })
    }

    /// Calls `each` with every state from 0 on: which symbol it stands for, counted from the lowest.
    fn spread(&self) -> [u8; STATES_MAX] {
        let size = 1_usize << self.log;
        let step = (size >> 1) + (size >> 3) + 3;
        let mut symbols = [0; STATES_MAX];
        let mut at = 0;
        for (symbol, part) in self.parts.iter().enumerate() {
            for _ in 0..*part {
                symbols[at & (STATES_MAX - 1)] = symbol as u8;
                at = (at + step) & (size - 1);
            }
        }
        symbols
    }

    /// Appends table and bits of `symbols`, each of which has a frequency.
    pub(crate) fn encode(&self, symbols: &[u8], out: &mut Vec<u8>) {
        let size = 1_usize << self.log;
        let mut starts = Vec::with_capacity(self.parts.len());
        let mut start = 0;
        for part in &self.parts {
            starts.push(start);
            start += usize::from(*part);
        }
        let mut next = starts.clone();
        let mut states = vec![0_u16; size];
        for (state, symbol) in self.spread()[..size].iter().enumerate() {
            let slot = &mut next[usize::from(*symbol)];
            states[*slot] = state as u16;
            *slot += 1;
        }
        let mut lanes = [0; LANES];
        // For each symbol the state it leads from, and above that how many bits of it are written.
        let mut moves = vec![0_u16; symbols.len()];
        for (index, symbol) in symbols.iter().enumerate().rev() {
            let symbol = usize::from(symbol - self.lowest);
            let part = u32::from(self.parts[symbol]);
            let lane = &mut lanes[index % LANES];
            let mut occurrence = 0;
            if index + LANES < symbols.len() {
                let state = size as u32 + *lane;
                let mut count = self.log + 1 - width_of(u64::from(part));
                if state >> count < part {
                    count -= 1;
                }
                moves[index] = (state | count << MOVE_STATE_BITS) as u16;
                occurrence = (state >> count) - part;
            }
            *lane = u32::from(states[starts[symbol] + occurrence as usize]);
        }
        let mut sink = BitSink::new(out);
        self.write(&mut sink);
        for lane in &lanes[..symbols.len().min(LANES)] {
            sink.push(u64::from(*lane), self.log);
        }
        for step in moves {
            sink.push(u64::from(step), u32::from(step >> MOVE_STATE_BITS));
        }
        sink.finish();
    }
}

/// Bits that one frequency takes in the table.
pub(crate) const fn part_bits(part: u16) -> u32 {
    2 * width_of((part >> GOLOMB_ORDER) as u64 + 1) - 1 + GOLOMB_ORDER
}

/// Bits that are written besides frequencies and symbols.
pub(crate) const fn fixed_bits(log: u32) -> u32 {
    SYMBOL_BITS + LANES as u32 * log
}

/// What a state says: its symbol, how many bits lead to the next state, and what to add to them.
#[derive(Clone, Copy, Default)]
struct State {
    next: u16,
    bits: u8,
    symbol: u8,
}

/// Fills `symbols` from the front of `bytes` and answers how many bytes that took.
pub(crate) fn decode(bytes: &[u8], log: u32, symbols: &mut [u8]) -> Result<usize, ChunkError> {
    if !(LOG_MIN..=LOG_MAX).contains(&log) {
        return Err(ChunkError::OutOfBounds { what: "table size" });
    }
    let mut bit = 0;
    let table = &table(&Frequencies::read(bytes, &mut bit, log)?);
    let at = |state: u64| table[state as usize & (STATES_MAX - 1)];
    let mut lanes = [0_u64; LANES];
    for lane in lanes.iter_mut().take(symbols.len()) {
        *lane = load(bytes, bit) & mask(log);
        bit += log as usize;
    }
    // The last symbol of each lane leads nowhere.
    let moving = symbols.len().saturating_sub(LANES);
    let (moving, last) = symbols.split_at_mut(moving);
    let (groups, rest) = moving.as_chunks_mut::<LANES>();
    for group in groups {
        // Four moves are at most 36 bits; a load has 57.
        let mut word = load(bytes, bit);
        let mut used = 0;
        for (slot, lane) in group.iter_mut().zip(&mut lanes) {
            let state = at(*lane);
            *slot = state.symbol;
            *lane = u64::from(state.next) + (word & ((1 << state.bits) - 1));
            word >>= state.bits;
            used += usize::from(state.bits);
        }
        bit += used;
    }
    for (index, slot) in rest.iter_mut().enumerate() {
        let state = at(lanes[index]);
        *slot = state.symbol;
        lanes[index] = u64::from(state.next) + (load(bytes, bit) & mask(u32::from(state.bits)));
        bit += usize::from(state.bits);
    }
    let turn = rest.len();
    for (index, slot) in last.iter_mut().enumerate() {
        *slot = at(lanes[(turn + index) % LANES]).symbol;
    }
    let used = bit.div_ceil(8);
    if used > bytes.len() { Err(ChunkError::Truncated) } else { Ok(used) }
}

fn table(frequencies: &Frequencies) -> [State; STATES_MAX] {
    let mut table = [State::default(); STATES_MAX];
    let mut next = [0_u16; 256];
    next[..frequencies.parts.len()].copy_from_slice(&frequencies.parts);
    let size = 1_usize << frequencies.log;
    let spread = frequencies.spread();
    for (state, symbol) in table.iter_mut().zip(&spread[..size]) {
        let occurrence = &mut next[usize::from(*symbol)];
        let bits = frequencies.log + 1 - width_of(u64::from(*occurrence));
        *state =
            State { next: (*occurrence << bits) - size as u16, bits: bits as u8, symbol: frequencies.lowest + *symbol };
        *occurrence += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(symbols: &[u8], log: u32) -> Option<usize> {
        let mut counts = [0; 256];
        for symbol in symbols {
            counts[usize::from(*symbol)] += 1;
        }
        let frequencies = Frequencies::fit(&counts, log)?;
        let mut bytes = Vec::new();
        frequencies.encode(symbols, &mut bytes);
        let mut found = vec![0; symbols.len()];
        assert_eq!(decode(&bytes, log, &mut found), Ok(bytes.len()));
        assert_eq!(found, symbols);
        let estimate = frequencies.cost_bits(&counts).div_ceil(8);
        assert!(bytes.len() <= estimate + estimate / 8 + 4, "{} for an estimate of {estimate}", bytes.len());
        Some(bytes.len())
    }

    #[test]
    fn skewed_symbols_take_about_their_entropy() {
        let symbols: Vec<u8> = (0..4096_u32).map(|i| u8::from(i.wrapping_mul(2_654_435_761) >> 24 < 16)).collect();
        // One in sixteen: 0.337 bits each.
        assert!(round_trip(&symbols, 8).unwrap() < 4096 * 34 / 800 + 16);
    }

    #[test]
    fn one_symbol_alone_takes_no_bits() {
        assert!(round_trip(&[7; 4096], 5).unwrap() <= 6);
    }

    #[test]
    fn too_many_symbols_for_a_table_are_refused() {
        let symbols: Vec<u8> = (0..=255).collect();
        assert_eq!(round_trip(&symbols, 8), None);
        assert!(round_trip(&symbols, 9).is_some());
    }

    proptest! {
        #[test]
        fn symbols_round_trip(symbols in proptest::collection::vec(0_u8..40, 1..300), log in LOG_MIN..=LOG_MAX) {
            round_trip(&symbols, log);
        }

        #[test]
        fn hostile_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), log in 0_u32..16, count in 0_usize..200) {
            let mut symbols = vec![0; count];
            if let Ok(used) = decode(&bytes, log, &mut symbols) {
                prop_assert!(used <= bytes.len());
            }
        }
    }
}
