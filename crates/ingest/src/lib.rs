//! Wire messages to model: decoding, validation, limits, translation.
