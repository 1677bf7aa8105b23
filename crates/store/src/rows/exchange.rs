//! Events and responses as bytes: for the event, and for the response if there is one, the length of the whole as
//! LEB128, then the length of what is kept and the text itself.

use impuls_domain::{Excerpt, Exchange};

use super::logs::{decode_length, push_length};

fn push(bytes: &mut Vec<u8>, excerpt: &Excerpt) {
    push_length(bytes, usize::try_from(excerpt.bytes()).unwrap_or(usize::MAX));
    push_length(bytes, excerpt.text().len());
    bytes.extend_from_slice(excerpt.text().as_bytes());
}

fn pull(bytes: &[u8]) -> Option<(Excerpt, &[u8])> {
    let (whole, rest) = decode_length(bytes)?;
    let (kept, rest) = decode_length(rest)?;
    let (text, rest) = rest.split_at_checked(kept)?;
    Some((Excerpt::restore(std::str::from_utf8(text).ok()?, whole as u64), rest))
}

pub(super) fn encode(exchange: &Exchange) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(exchange.kept_bytes() + 12);
    push(&mut bytes, &exchange.event);
    if let Some(response) = &exchange.response {
        push(&mut bytes, response);
    }
    bytes
}

/// The exchange of stored bytes; `None` if they are damaged.
pub(super) fn decode(bytes: &[u8]) -> Option<Exchange> {
    let (event, rest) = pull(bytes)?;
    if rest.is_empty() {
        return Some(Exchange { event, response: None });
    }
    let (response, rest) = pull(rest)?;
    rest.is_empty().then_some(Exchange { event, response: Some(response) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_exchange_round_trips(event in ".{0,9000}", response in prop::option::of(".{0,9000}")) {
            let excerpt = |text: &String| Excerpt::of(text.as_bytes());
            let exchange = Exchange { event: excerpt(&event), response: response.as_ref().map(excerpt) };
            prop_assert_eq!(decode(&encode(&exchange)), Some(exchange));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _whatever = decode(&bytes);
        }
    }
}
