//! The series of real exporters that lie in the repository (`tests/data`).

use std::path::Path;

use pharos_chunk::CHUNK_SAMPLES_MAX;

/// One series.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) instants_ms: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

/// Every `every`-th sample of each series.
pub(crate) fn series(every: usize) -> Vec<Series> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/node-exporter-5s.bin.zst");
    let file = std::fs::File::open(path).expect("the data lie in the repository");
    let bytes = zstd::decode_all(file).expect("the data are sound");
    let (mut at, mut all) = (0, Vec::new());
    let take = |at: &mut usize, length: usize| {
        *at += length;
        &bytes[*at - length..*at]
    };
    while at < bytes.len() {
        let length = u32::from_le_bytes(take(&mut at, 4).try_into().expect("four bytes"));
        take(&mut at, length as usize);
        let count = u32::from_le_bytes(take(&mut at, 4).try_into().expect("four bytes")) as usize;
        let eights = |bytes: &[u8]| -> Vec<[u8; 8]> { bytes.as_chunks().0.iter().copied().step_by(every).collect() };
        let instants = eights(take(&mut at, count * 8));
        let values = eights(take(&mut at, count * 8));
        all.push(Series {
            instants_ms: instants.into_iter().map(i64::from_le_bytes).take(CHUNK_SAMPLES_MAX).collect(),
            values: values.into_iter().map(f64::from_le_bytes).take(CHUNK_SAMPLES_MAX).collect(),
        });
    }
    all
}
