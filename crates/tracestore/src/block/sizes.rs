//! What takes how many bytes of a block: for measurements.

use super::open::Block;
use crate::codec::DecodeError;

impl Block<'_> {
    /// Parts and columns with their bytes.
    pub(crate) fn sizes(&self) -> Result<Vec<(String, usize)>, DecodeError> {
        let mut sizes = self.core_sizes();
        let catalogue = self.catalogue()?;
        sizes.push(("catalogue, inflated".to_owned(), catalogue.raw_len()));
        sizes.extend(catalogue.sizes());
        Ok(sizes)
    }
}
