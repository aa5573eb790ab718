//! How a session reads and writes what pictures of AV1 are made from.

use str0m::rtp::{Extension, ExtensionSerializer, ExtensionValues};

use crate::media::{negotiation, rtp::Dependencies};

/// What fits the form of header extensions whose length has four bits (RFC 8285 §4.2).
const LONGEST_SHORT: usize = 16;

/// The header extension: values are [`Dependencies`], as they came.
pub(super) fn extension() -> Extension {
    Extension::with_serializer(negotiation::DEPENDENCIES, AsItCame)
}

#[derive(Debug)]
struct AsItCame;

impl ExtensionSerializer for AsItCame {
    fn write_to(&self, into: &mut [u8], values: &ExtensionValues) -> usize {
        let bytes = values.user_values.get().map_or(&[][..], Dependencies::bytes);
        match into.get_mut(..bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => return 0,
        }
        bytes.len()
    }

    fn parse_value(&self, bytes: &[u8], values: &mut ExtensionValues) -> bool {
        let read = Dependencies::new(bytes);
        let is_one = read.is_some();
        read.into_iter().for_each(|read| values.user_values.set(read));
        is_one
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_audio(&self) -> bool {
        false
    }

    fn requires_two_byte_form(&self, values: &ExtensionValues) -> bool {
        values.user_values.get().is_some_and(|read: &Dependencies| read.bytes().len() > LONGEST_SHORT)
    }
}
