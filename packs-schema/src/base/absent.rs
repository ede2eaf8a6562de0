//! Treats `null` under an optional key as an absent key: in YAML an empty value (`description:`) is `null`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Reads `null` as the type's default; for `#[serde(default, deserialize_with)]`.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Reads `null` as true, for a flag that is on by default.
pub(crate) fn null_is_true<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(from)?.unwrap_or(true))
}

/// Reads `null` as an empty map, and `null` values in a map as their type's default.
pub(crate) fn null_values<'de, D, K, V>(from: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Ord + Deserialize<'de>,
    V: Default + Deserialize<'de>,
{
    let map = Option::<BTreeMap<K, Option<V>>>::deserialize(from)?.unwrap_or_default();
    Ok(map.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
}
