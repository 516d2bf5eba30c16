//! What the words of the index add to lists: keys with their levels, and values of columns that have few.
//!
//! A word counts if a block has it that the index knows as live and that is of a segment which readers see. Of values the
//! words do not say where and as what they stand; other words of the block do. Where these leave a choice, or say that values
//! are in value postings, the block has to be read.

use std::collections::HashMap;

use pharos_storage::ListedType;
use tantivy::DocSet;
use tantivy::TERMINATED;
use tantivy::postings::TermInfo;
use tantivy::schema::IndexRecordOption;

use super::{Candidate, IndexSegment, IndexView, visit_range};
use crate::TraceStoreError;
use crate::block::ValueType;
use crate::codec::Reader;
use crate::search::terms::{self, KeyLevel};
use crate::search::{Bits, Listing, TermSubject, Wanted, listed_type};

impl IndexView {
    /// Adds the keys of all blocks of the segments that are `seen`, and says which blocks have to be read as words do not tell of
    /// theirs.
    pub(crate) fn list_keys(
        &self,
        tenant: u32,
        seen: &dyn Fn(u64) -> bool,
        listing: &mut Listing<'_>,
    ) -> Result<Vec<Candidate>, TraceStoreError> {
        let Wanted::Keys(wanted) = listing.wanted else { return Ok(Vec::new()) };
        let mut unread = Vec::new();
        self.each(tenant, seen, |words| {
            unread.extend(words.candidates(&words.word(&terms::untold())?));
            words.visit(&terms::has_any_attribute_prefix(), &mut |rest, info| {
                let mut reader = Reader::new(rest);
                let (Ok(key), Ok([level, _])) = (reader.text("key"), reader.array("place")) else { return Ok(()) };
                let Some(level) = KeyLevel::of_byte(level).map(KeyLevel::level) else { return Ok(()) };
                if wanted.is_none_or(|wanted| wanted == level)
                    && !listing.knows_key(level, key)
                    && words.documents(info)?.iter().next().is_some()
                {
                    listing.add_key(level, key);
                }
                Ok(())
            })
        })?;
        Ok(unread)
    }

    /// Adds the values that words tell of, and says which blocks have to be read for the rest.
    pub(crate) fn list_values(
        &self,
        tenant: u32,
        seen: &dyn Fn(u64) -> bool,
        listing: &mut Listing<'_>,
    ) -> Result<Vec<Candidate>, TraceStoreError> {
        let mut unread = Vec::new();
        self.each(tenant, seen, |words| {
            let Some(of) = listing.wanted.term_subject() else {
                unread.extend(words.candidates(&words.live));
                return Ok(());
            };
            unread.extend(words.candidates(&words.word(&terms::untold())?));
            let (types, mut unsure) = words.types(of, listing.wanted)?;
            unsure.add(&words.word(&terms::many(of))?);
            let mut of_types = types;
            let mut wanted = words.none();
            for (_, documents) in &of_types {
                wanted.add(documents);
            }
            unsure.keep(&wanted);
            for (_, documents) in &mut of_types {
                documents.remove(&unsure);
            }
            unread.extend(words.candidates(&unsure));
            words.visit(&terms::value_prefix(of), &mut |rest, info| {
                let Ok(text) = std::str::from_utf8(rest) else { return Ok(()) };
                if listing.is_full() || of_types.iter().all(|(of, _)| listing.knows_value(*of, text)) {
                    return Ok(());
                }
                let documents = words.documents(info)?;
                for (value_type, of_type) in &of_types {
                    if documents.iter().any(|document| of_type.contains(document)) {
                        listing.add_value(*value_type, text);
                    }
                }
                Ok(())
            })
        })?;
        Ok(unread)
    }

    fn each(
        &self,
        tenant: u32,
        seen: &dyn Fn(u64) -> bool,
        mut visit: impl FnMut(&Words<'_>) -> std::io::Result<()>,
    ) -> Result<(), TraceStoreError> {
        for (segment, reader) in self.segments.iter().zip(self.searcher.segment_readers()) {
            let mut words = Words { segment, tenant, live: Bits::all(reader.max_doc() as usize) };
            let visited = words.word(&terms::everything()).and_then(|of_tenant| {
                let mut known = HashMap::new();
                let mut live = words.none();
                for document in of_tenant.iter().filter(|document| !reader.is_deleted(*document as u32)) {
                    let of = segment.segments.first(document as u32).unwrap_or(0);
                    if *known.entry(of).or_insert_with(|| seen(of)) {
                        live.insert(document);
                    }
                }
                words.live = live;
                visit(&words)
            });
            visited.map_err(TraceStoreError::index("list words of", &self.path))?;
        }
        Ok(())
    }
}

/// The words of one segment of the index.
struct Words<'a> {
    segment: &'a IndexSegment,
    tenant: u32,
    /// Documents that count.
    live: Bits,
}

impl Words<'_> {
    fn none(&self) -> Bits {
        Bits::none(self.live.len())
    }

    /// Documents by the type of what they have of the subject, and those whose words leave open what a value is: they have
    /// several types, or have it where it is not wanted, too.
    fn types(&self, of: TermSubject<'_>, wanted: Wanted<'_>) -> std::io::Result<(Vec<(ListedType, Bits)>, Bits)> {
        let TermSubject::Attribute(key) = of else {
            return Ok((vec![(ListedType::Text, self.live.clone())], self.none()));
        };
        let (mut types, mut unsure): (Vec<(ListedType, Bits)>, _) = (Vec::new(), self.none());
        let mut elsewhere = self.none();
        self.visit(&terms::has_prefix(of), &mut |rest, info| {
            let [level, value_type] = *rest else { return Ok(()) };
            let (Some(level), Some(value_type)) = (KeyLevel::of_byte(level), ValueType::of_byte(value_type)) else {
                return Ok(());
            };
            let documents = self.documents(info)?;
            if !wanted.attribute(level.level(), key) {
                elsewhere.add(&documents);
                return Ok(());
            }
            let value_type = listed_type(value_type);
            match types.iter_mut().find(|(known, _)| *known == value_type) {
                Some((_, known)) => known.add(&documents),
                None => types.push((value_type, documents)),
            }
            Ok(())
        })?;
        let mut seen = self.none();
        for (_, documents) in &types {
            let mut both = documents.clone();
            both.keep(&seen);
            unsure.add(&both);
            seen.add(documents);
        }
        unsure.add(&elsewhere);
        Ok((types, unsure))
    }

    fn full(&self, word: &[u8]) -> Vec<u8> {
        [&self.tenant.to_be_bytes()[..], word].concat()
    }

    fn visit(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &TermInfo) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        visit_range(self.segment.inverted.terms(), &self.full(prefix), None, visit)
    }

    fn word(&self, word: &[u8]) -> std::io::Result<Bits> {
        match self.segment.inverted.terms().get(self.full(word))? {
            Some(info) => self.documents(&info),
            None => Ok(self.none()),
        }
    }

    /// The documents that have a word and count.
    fn documents(&self, info: &TermInfo) -> std::io::Result<Bits> {
        let mut found = self.none();
        let mut postings = self.segment.inverted.read_postings_from_terminfo(info, IndexRecordOption::Basic)?;
        let mut document = postings.doc();
        while document != TERMINATED {
            found.insert(document as usize);
            document = postings.advance();
        }
        found.keep(&self.live);
        Ok(found)
    }

    fn candidates<'a>(&'a self, documents: &'a Bits) -> impl Iterator<Item = Candidate> + 'a {
        documents.iter().map(|document| Candidate {
            segment: self.segment.segments.first(document as u32).unwrap_or(0),
            block: self.segment.blocks.first(document as u32).unwrap_or(0) as u32,
        })
    }
}
