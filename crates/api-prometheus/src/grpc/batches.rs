//! Items in messages of bounded size.

use std::iter::Peekable;

/// What a message may take, bytes: clients take 4 MiB unless they are told otherwise.
pub(super) const MESSAGE_BYTES: usize = 1 << 20;
/// Tag and length of an item.
pub(super) const FRAME_BYTES: usize = 8;

/// Items, as many in each message as fit; the last message, which may be the only one and empty, gets `end`.
pub(super) fn batches<T, E, M>(
    items: impl Iterator<Item = T>,
    bytes: impl Fn(&T) -> usize,
    end: E,
    mut frame: impl FnMut(Vec<T>, Option<E>) -> M,
) -> impl Iterator<Item = M> {
    let (mut items, mut end) = (items.peekable(), Some(end));
    std::iter::from_fn(move || {
        end.as_ref()?;
        let batch = batch(&mut items, &bytes);
        let end = if items.peek().is_none() { end.take() } else { None };
        Some(frame(batch, end))
    })
}

fn batch<T>(items: &mut Peekable<impl Iterator<Item = T>>, bytes: &impl Fn(&T) -> usize) -> Vec<T> {
    let (mut batch, mut sum) = (Vec::new(), 0);
    while let Some(item) = items.next_if(|item| batch.is_empty() || sum + bytes(item) + FRAME_BYTES <= MESSAGE_BYTES) {
        sum += bytes(&item) + FRAME_BYTES;
        batch.push(item);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(sizes: &[usize]) -> Vec<(Vec<usize>, Option<&'static str>)> {
        batches(sizes.iter().copied(), |size| *size, "end", |batch, end| (batch, end)).collect()
    }

    #[test]
    fn messages_are_as_full_as_may_be_and_the_last_one_tells_the_end() {
        assert_eq!(framed(&[]), [(vec![], Some("end"))]);
        assert_eq!(framed(&[1, 2]), [(vec![1, 2], Some("end"))]);
        let half = MESSAGE_BYTES / 2 - FRAME_BYTES;
        assert_eq!(framed(&[half, half, 1]), [(vec![half, half], None), (vec![1], Some("end"))]);
        let large = MESSAGE_BYTES * 2;
        assert_eq!(framed(&[1, large, 1]), [(vec![1], None), (vec![large], None), (vec![1], Some("end"))]);
    }
}
