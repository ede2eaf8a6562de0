//! `null` under an optional key means that the key is absent: YAML writes an empty value (`description:`) so.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// For `#[serde(default, deserialize_with)]`: `null` is the type's default.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// The same for a flag that is on by default.
pub(crate) fn null_is_true<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(from)?.unwrap_or(true))
}

/// The same for a map, and for each of its values.
pub(crate) fn null_values<'de, D, K, V>(from: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Ord + Deserialize<'de>,
    V: Default + Deserialize<'de>,
{
    let map = Option::<BTreeMap<K, Option<V>>>::deserialize(from)?.unwrap_or_default();
    Ok(map.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
}
