//! What a log of waiting spans holds, for whoever looks through a data folder.

use std::path::Path;

use crate::SamplingError;
use crate::log;
use crate::record::Record;
use crate::replay::{Survey, decode};

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// Files.
    pub files: u64,
    /// Requests in them, whatever became of their spans.
    pub requests: u64,
    /// Spans that were acknowledged with these.
    pub spans: u64,
    /// One line for each damaged file, those that were set aside before included.
    pub damage: Vec<String>,
}

/// Reads a log and changes nothing. No sampler may run on it.
///
/// # Errors
/// [`SamplingError`] if files cannot be read, or are of another version.
pub fn examine(folder: &Path) -> Result<Examined, SamplingError> {
    let survey = Survey::of(folder, |_, _| {})?;
    let mut found = Examined { files: survey.files.len() as u64, ..Examined::default() };
    for &file in &survey.files {
        let bytes = log::read(folder, file)?;
        for (_, record) in decode(folder, file, &bytes)?.records {
            if let Record::Request(request) = record {
                found.requests += 1;
                found.spans += u64::from(request.span_count);
            }
        }
    }
    let path = |file: &u64| log::path_of(folder, *file).display().to_string();
    found.damage.extend(survey.damaged.iter().map(|file| format!("{}: what is sound in it is still used", path(file))));
    let set_aside = log::damaged_files(folder)?;
    found.damage.extend(set_aside.iter().map(|file| format!("{}: set aside as .damaged", path(file))));
    Ok(found)
}
