//! Lists of texts and other byte strings with access to each, in one of three forms: as they are in the catalogue,
//! as templates and numbers, or in compressed frames of their own, which only their readers inflate.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use zstd::bulk::Compressor;

use super::body::Body;
use super::frame::{put_frame, read_frame};
use super::intern::{Interner, clear_buffer};
use super::ints::{Ints, put_ints, width_of_range};
use super::template;
use crate::codec::{DecodeError, Reader, Writer};

const PLAIN: u8 = 0;
const TEMPLATES: u8 = 1;
const FRAMES: u8 = 2;

/// Lists with more bytes stand in frames of their own: every reader inflates the catalogue.
const PLAIN_BYTES_MAX: usize = 4 << 10;
/// As much of templates.
const TEMPLATE_BYTES_MAX: usize = 16 << 10;
/// A frame is full when it has as many bytes; a longer text has one for itself.
const FRAME_BYTES: usize = 16 << 10;
/// What zstd makes of texts: one byte of so many.
const ZSTD_RATIO: usize = 3;

/// How the distinct values of a column are written. One plan after the other is made in the same memory.
#[derive(Default)]
pub(super) struct TextPlan {
    form: u8,
    /// About, for each value.
    bits_per_value: usize,
    templates: Interner,
    template_of: Vec<u32>,
    /// Where the numbers of each value begin.
    first_number: Vec<usize>,
    numbers: Vec<i64>,
    /// The number of each slot of each template: none seen yet, always the same, or different ones.
    same: Vec<Vec<Same>>,
    /// Of each template the numbers that are not always the same.
    differing: Vec<Vec<usize>>,
    scratch: Vec<u8>,
    slot: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Same {
    Always(i64),
    Differs,
}

impl TextPlan {
    /// Plans for `values`, which are UTF-8 if they are `text`.
    pub(super) fn make(&mut self, values: &Interner, is_text: bool) {
        let count = values.len().max(1);
        let raw_bytes: usize = (0..values.len()).map(|value| values.get(value).len() + 1).sum();
        let (form, bits) = (if raw_bytes <= PLAIN_BYTES_MAX { PLAIN } else { FRAMES }, raw_bytes * 8 / ZSTD_RATIO);
        (self.form, self.bits_per_value) = (form, bits / count);
        // One text has nothing to share its template with.
        if !is_text || values.len() < 2 {
            return;
        }
        self.cut_up(values);
        let template_bytes: usize = (0..self.templates.len()).map(|at| self.templates.get(at).len() + 1).sum();
        if template_bytes > TEMPLATE_BYTES_MAX || self.templates.len() == values.len() {
            return;
        }
        let id_bits = width_of_range([0, self.templates.len() as i64 - 1].into_iter());
        let number_bits: usize = (0..self.slot_count()).map(|slot| self.slot_bits(slot)).sum();
        let bits_per_value = id_bits + number_bits / count;
        if bits_per_value * count + template_bytes * 8 / ZSTD_RATIO < bits {
            (self.form, self.bits_per_value) = (TEMPLATES, bits_per_value);
        }
    }

    /// Bits that a value takes, about.
    pub(super) fn bits_per_value(&self) -> usize {
        self.bits_per_value
    }

    fn cut_up(&mut self, values: &Interner) {
        self.templates.clear();
        self.template_of.clear();
        self.first_number.clear();
        self.numbers.clear();
        self.same.clear();
        for value in 0..values.len() {
            clear_buffer(&mut self.scratch);
            let first = self.numbers.len();
            self.first_number.push(first);
            template::cut(values.get(value), &mut self.scratch, &mut self.numbers);
            let template = self.templates.number(&self.scratch);
            self.template_of.push(template);
            let found = &self.numbers[first..];
            if template as usize == self.same.len() {
                self.same.push(found.iter().map(|number| Same::Always(*number)).collect());
            } else {
                for (same, number) in self.same[template as usize].iter_mut().zip(found) {
                    if *same != Same::Always(*number) {
                        *same = Same::Differs;
                    }
                }
            }
        }
        let differing = |same: &Vec<Same>| (0..same.len()).filter(|at| same[*at] == Same::Differs).collect();
        self.differing.clear();
        self.differing.extend(self.same.iter().map(differing));
    }

    /// The most numbers that differ which a template has.
    fn slot_count(&self) -> usize {
        self.differing.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The number in slot `slot` of a value, not counting those that are always the same.
    fn number(&self, value: usize, slot: usize) -> Option<i64> {
        let at = self.differing[self.template_of[value] as usize].get(slot)?;
        Some(self.numbers[self.first_number[value] + at])
    }

    fn slot_bits(&self, slot: usize) -> usize {
        let numbers = || (0..self.template_of.len()).filter_map(|value| self.number(value, slot));
        width_of_range(numbers()) * numbers().count()
    }

    /// Appends the values with the numbers `entries`, in that order.
    pub(super) fn put(
        &mut self,
        catalogue: &mut Vec<u8>,
        bits: &mut Vec<u8>,
        compressor: &mut Compressor<'_>,
        values: &Interner,
        entries: &[u32],
    ) {
        catalogue.push(self.form);
        match self.form {
            PLAIN => entries.iter().for_each(|entry| catalogue.put_bytes(values.get(*entry as usize))),
            TEMPLATES => self.put_templates(catalogue, bits, entries),
            _ => self.put_frames(catalogue, bits, compressor, values, entries),
        }
    }

    fn put_templates(&mut self, catalogue: &mut Vec<u8>, bits: &mut Vec<u8>, entries: &[u32]) {
        catalogue.put_varint(self.templates.len() as u64);
        for (template, same) in self.same.iter().enumerate() {
            self.scratch.clear();
            let mut same = same.iter();
            let known = || match same.next() {
                Some(Same::Always(number)) => Some(*number),
                _ => None,
            };
            template::fill_in(self.templates.get(template), known, &mut self.scratch);
            catalogue.put_bytes(&self.scratch);
        }
        let mut slot = std::mem::take(&mut self.slot);
        slot.clear();
        slot.extend(entries.iter().map(|entry| i64::from(self.template_of[*entry as usize])));
        put_ints(catalogue, bits, &slot);
        for number in 0..self.slot_count() {
            slot.clear();
            slot.extend(entries.iter().filter_map(|entry| self.number(*entry as usize, number)));
            catalogue.put_varint(slot.len() as u64);
            put_ints(catalogue, bits, &slot);
        }
        self.slot = slot;
    }

    fn put_frames(
        &mut self,
        catalogue: &mut Vec<u8>,
        bits: &mut Vec<u8>,
        compressor: &mut Compressor<'_>,
        values: &Interner,
        entries: &[u32],
    ) {
        self.slot.clear();
        self.slot.extend(entries.iter().map(|entry| values.get(*entry as usize).len() as i64));
        put_ints(catalogue, bits, &self.slot);
        let mut from = 0;
        clear_buffer(&mut self.scratch);
        for (index, entry) in entries.iter().enumerate() {
            self.scratch.extend_from_slice(values.get(*entry as usize));
            if self.scratch.len() >= FRAME_BYTES || index + 1 == entries.len() {
                catalogue.put_varint((index + 1 - from) as u64);
                catalogue.put_varint(put_frame(bits, &self.scratch, compressor) as u64);
                from = index + 1;
                clear_buffer(&mut self.scratch);
            }
        }
    }
}

/// A list of texts. What stands in the catalogue is known by its place there.
#[derive(Debug)]
pub(super) enum Texts {
    Plain(Vec<Range<u32>>),
    Templates(Templates),
    Frames { lens: Ints, frames: Vec<Frame> },
}

#[derive(Debug)]
pub(super) struct Templates {
    list: Vec<Template>,
    ids: Ints,
    /// By slot: the numbers of the texts whose template has as many.
    slots: Vec<Ints>,
    /// By slot, if some templates have fewer: how many numbers come before those of each text.
    places: OnceLock<Vec<Vec<u32>>>,
}

#[derive(Debug)]
struct Template {
    range: Range<u32>,
    slot_count: u32,
}

#[derive(Debug)]
pub(super) struct Frame {
    first: usize,
    /// How many texts it has.
    count: usize,
    raw_len: usize,
    stored: Bytes,
    /// Once it was inflated.
    raw: OnceLock<RawFrame>,
}

#[derive(Debug)]
struct RawFrame {
    bytes: Vec<u8>,
    /// Where each text ends.
    ends: Vec<usize>,
}

impl Texts {
    /// Reads a list of `count` texts out of `catalogue`, at whose end `reader` ends, too. Only texts have templates.
    pub(super) fn read(
        catalogue: &[u8],
        reader: &mut Reader<'_>,
        bits: &mut Body,
        count: usize,
        is_text: bool,
    ) -> Result<Self, DecodeError> {
        match reader.byte("form of texts")? {
            PLAIN => read_ranges(catalogue, reader, count).map(Self::Plain),
            TEMPLATES if is_text => Templates::read(catalogue, reader, bits, count).map(Self::Templates),
            FRAMES => {
                let lens = Ints::read(reader, bits, count)?;
                let frames = read_frames(reader, bits, &lens, count)?;
                Ok(Self::Frames { lens, frames })
            }
            _ => Err(DecodeError::OutOfRange("form of texts")),
        }
    }

    /// What it takes in memory beside itself and the block's bytes, once everything is inflated.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Plain(ranges) => ranges.len() * size_of::<Range<u32>>(),
            Self::Templates(templates) => templates.memory_bytes(),
            Self::Frames { lens, frames } => {
                let of_frames =
                    frames.iter().map(|frame| size_of::<Frame>() + frame.raw_len + frame.count * size_of::<usize>());
                lens.memory_bytes() + of_frames.sum::<usize>()
            }
        }
    }

    #[cfg(feature = "internals")]
    pub(super) fn byte_len(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Templates(templates) => {
                templates.ids.byte_len() + templates.slots.iter().map(Ints::byte_len).sum::<usize>()
            }
            Self::Frames { lens, frames } => {
                lens.byte_len() + frames.iter().map(|frame| frame.stored.len()).sum::<usize>()
            }
        }
    }

    /// Hands over the entries that are `text`, ascending, without printing any.
    pub(super) fn visit_equal(
        &self,
        catalogue: &[u8],
        text: &[u8],
        mut hit: impl FnMut(usize),
    ) -> Result<(), DecodeError> {
        match self {
            Self::Plain(ranges) => {
                let equal = |range: &Range<u32>| range.len() == text.len() && slice(catalogue, range) == text;
                ranges.iter().enumerate().filter(|(_, range)| equal(range)).for_each(|(entry, _)| hit(entry));
                Ok(())
            }
            Self::Templates(templates) => templates.visit_equal(catalogue, text, hit),
            Self::Frames { lens, .. } => {
                // Frames without a text of this length stay packed.
                for (entry, _) in lens.iter().enumerate().filter(|(_, len)| *len == text.len() as i64) {
                    if *self.get(catalogue, entry)? == *text {
                        hit(entry);
                    }
                }
                Ok(())
            }
        }
    }

    /// The text at `index`, which must be within the list.
    pub(super) fn get<'s>(&'s self, catalogue: &'s [u8], index: usize) -> Result<Cow<'s, [u8]>, DecodeError> {
        match self {
            Self::Plain(ranges) => Ok(Cow::Borrowed(slice(catalogue, &ranges[index]))),
            Self::Templates(templates) => templates.print(catalogue, index).map(Cow::Owned),
            Self::Frames { lens, frames } => {
                let frame = &frames[frames.partition_point(|frame| frame.first <= index) - 1];
                frame.text(lens, index - frame.first).map(Cow::Borrowed)
            }
        }
    }
}

impl Templates {
    fn read(catalogue: &[u8], reader: &mut Reader<'_>, bits: &mut Body, count: usize) -> Result<Self, DecodeError> {
        let template_count = reader.count("template count")?;
        let templates = read_ranges(catalogue, reader, template_count)?
            .into_iter()
            .map(|range| Ok(Template { slot_count: template::check(slice(catalogue, &range))? as u32, range }))
            .collect::<Result<Vec<_>, _>>()?;
        let ids = Ints::read(reader, bits, count)?;
        let slot_count = templates.iter().map(|template| template.slot_count as usize).max().unwrap_or(0);
        let slots = (0..slot_count).map(|_| {
            let numbers = reader.varint("numbers of texts")?;
            let numbers = usize::try_from(numbers).ok().filter(|numbers| *numbers <= count);
            Ints::read(reader, bits, numbers.ok_or(DecodeError::OutOfRange("numbers of texts"))?)
        });
        Ok(Self { list: templates, ids, slots: slots.collect::<Result<_, _>>()?, places: OnceLock::new() })
    }

    fn memory_bytes(&self) -> usize {
        let place = |slot: &Ints| if slot.len() == self.ids.len() { 0 } else { self.ids.len() * size_of::<u32>() };
        let of_slots: usize = self.slots.iter().map(|slot| size_of::<Ints>() + slot.memory_bytes() + place(slot)).sum();
        self.list.len() * size_of::<Template>() + self.ids.memory_bytes() + of_slots
    }

    /// The template of a text.
    fn template(&self, id: i64) -> Result<&Template, DecodeError> {
        let template = usize::try_from(id).ok().and_then(|id| self.list.get(id));
        template.ok_or(DecodeError::OutOfRange("template"))
    }

    fn print(&self, catalogue: &[u8], index: usize) -> Result<Vec<u8>, DecodeError> {
        let template = self.template(self.ids.get(index))?;
        let mut numbers = [0; template::NUMBERS_MAX];
        for (slot, number) in numbers[..template.slot_count as usize].iter_mut().enumerate() {
            *number = self.slots[slot].get(self.place(slot, index)?);
        }
        let mut out = Vec::with_capacity(template.range.len() + 8 * template.slot_count as usize);
        template::print(slice(catalogue, &template.range), numbers.into_iter(), &mut out);
        Ok(out)
    }

    /// Where the number of a text is among those of its slot.
    fn place(&self, slot: usize, index: usize) -> Result<usize, DecodeError> {
        if self.slots[slot].len() == self.ids.len() {
            return Ok(index);
        }
        let places = if let Some(places) = self.places.get() {
            places
        } else {
            let places = self.count_places()?;
            self.places.get_or_init(|| places)
        };
        Ok(places[slot][index] as usize)
    }

    fn count_places(&self) -> Result<Vec<Vec<u32>>, DecodeError> {
        let mut next = vec![0; self.slots.len()];
        let mut places = vec![Vec::new(); self.slots.len()];
        for id in self.ids.iter() {
            for ((places, next), slot) in places.iter_mut().zip(&next).zip(&self.slots) {
                if slot.len() < self.ids.len() {
                    places.push(*next);
                }
            }
            next[..self.template(id)?.slot_count as usize].iter_mut().for_each(|next| *next += 1);
        }
        self.check_places(&next)?;
        Ok(places)
    }

    /// As [`Templates::visit_equal`] where each text has a number in each slot, at its own place: one is looked for, and where it
    /// is, the rest.
    fn visit_equal_aligned(&self, wanted: &[Option<Vec<i64>>], hit: impl FnMut(usize)) {
        let mut found = Vec::new();
        for (template, numbers) in
            wanted.iter().enumerate().filter_map(|(at, numbers)| Some((at as u64, numbers.as_ref()?)))
        {
            let has_all = |entry: usize| {
                let has = |(slot, number): (&Ints, &i64)| slot.get(entry) == *number;
                self.ids.get(entry) as u64 == template && self.slots.iter().zip(numbers).all(has)
            };
            let mut offer = |entry| found.extend(has_all(entry).then_some(entry));
            match self.slots.first().zip(numbers.first()) {
                Some((slot, number)) => slot.visit_within(*number as u64..=*number as u64, &mut offer),
                None => self.ids.visit_within(template..=template, &mut offer),
            }
        }
        found.sort_unstable();
        found.into_iter().for_each(hit);
    }

    /// Each slot has as many numbers as the templates of all texts ask for.
    fn check_places(&self, wanted: &[u32]) -> Result<(), DecodeError> {
        let is_right = self.slots.iter().zip(wanted).all(|(slot, wanted)| slot.len() == *wanted as usize);
        if is_right { Ok(()) } else { Err(DecodeError::OutOfRange("numbers of texts")) }
    }

    /// Hands over the entries whose text is `text`, ascending.
    fn visit_equal(&self, catalogue: &[u8], text: &[u8], mut hit: impl FnMut(usize)) -> Result<(), DecodeError> {
        // One is the rule; digits that are no hexadecimal id by themselves match a template with one, too.
        let mut wanted: Vec<Option<Vec<i64>>> = vec![None; self.list.len()];
        let mut numbers = Vec::new();
        for (template, wanted) in self.list.iter().zip(&mut wanted) {
            if template::match_text(slice(catalogue, &template.range), text, &mut numbers) {
                *wanted = Some(numbers.clone());
            }
        }
        if wanted.iter().all(Option::is_none) {
            return Ok(());
        }
        if self.slots.iter().all(|slot| slot.len() == self.ids.len()) {
            self.visit_equal_aligned(&wanted, hit);
            return Ok(());
        }
        let mut next = vec![0_u32; self.slots.len()];
        for (entry, id) in self.ids.iter().enumerate() {
            let slot_count = self.template(id)?.slot_count as usize;
            if let Some(wanted) = &wanted[id as usize] {
                let numbers = self.slots.iter().zip(&next).map(|(slot, next)| slot.checked(*next as usize));
                if numbers.zip(wanted).all(|(number, wanted)| number == Some(*wanted)) {
                    hit(entry);
                }
            }
            next[..slot_count].iter_mut().for_each(|next| *next += 1);
        }
        self.check_places(&next)
    }
}

impl Frame {
    /// Its text number `index`; `lens` are those of the texts of all frames.
    fn text(&self, lens: &Ints, index: usize) -> Result<&[u8], DecodeError> {
        let RawFrame { bytes, ends } = self.raw(lens)?;
        let start = if index == 0 { 0 } else { ends[index - 1] };
        Ok(&bytes[start..ends[index]])
    }

    fn raw(&self, lens: &Ints) -> Result<&RawFrame, DecodeError> {
        if let Some(raw) = self.raw.get() {
            return Ok(raw);
        }
        let bytes = read_frame(&self.stored, self.raw_len)?;
        let of_texts = lens.iter_from(self.first).take(self.count);
        // Their sum was found to be the frame's length when the frame was read.
        let ends = of_texts.scan(0, |end, len| {
            *end += len as usize;
            Some(*end)
        });
        let raw = RawFrame { ends: ends.collect(), bytes };
        Ok(self.raw.get_or_init(|| raw))
    }
}

fn slice<'a>(catalogue: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    &catalogue[range.start as usize..range.end as usize]
}

fn read_ranges(catalogue: &[u8], reader: &mut Reader<'_>, count: usize) -> Result<Vec<Range<u32>>, DecodeError> {
    if count > reader.remaining() {
        return Err(DecodeError::Truncated("texts"));
    }
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        let text = reader.bytes("text")?;
        let end = catalogue.len() - reader.remaining();
        ranges.push((end - text.len()) as u32..end as u32);
    }
    Ok(ranges)
}

/// Frames until they hold `count` texts: none without any.
fn read_frames(reader: &mut Reader<'_>, bits: &mut Body, lens: &Ints, count: usize) -> Result<Vec<Frame>, DecodeError> {
    let wrong = DecodeError::OutOfRange("texts of a frame");
    let (mut frames, mut first) = (Vec::new(), 0);
    while first < count {
        let len = usize::try_from(reader.varint("texts of a frame")?).map_err(|_| wrong)?;
        let end = first.checked_add(len).filter(|end| len > 0 && *end <= count).ok_or(wrong)?;
        let mut raw_len = 0_usize;
        for len in lens.iter_from(first).take(end - first) {
            raw_len = usize::try_from(len).ok().and_then(|len| raw_len.checked_add(len)).ok_or(wrong)?;
        }
        let stored_len = usize::try_from(reader.varint("length of a frame")?).map_err(|_| wrong)?;
        let stored = bits.take(stored_len, "frame")?;
        frames.push(Frame { first, count: end - first, raw_len, stored, raw: OnceLock::new() });
        first = end;
    }
    Ok(frames)
}
