//! Reads keywords that accept one of two shapes, with errors that describe both.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::base::strict::shorten;

use super::{Additional, Items, Required, Schema, Type, Types};

/// Visitor of the two shapes; other shapes are errors that describe the valid ones.
struct Shapes<Two>(PhantomData<Two>);

fn one_type<E: Error>(given: &str) -> Result<Type, E> {
    Type::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(given)).map_err(|_| {
        let given = shorten(given, 80);
        E::custom(format_args!("{given:?} is not a type: {TYPES}"))
    })
}

const TYPES: &str = "use string, integer, number, boolean, array, object or null, or leave type out";

/// Item of a list of types.
struct OneType(Type);

impl<'de> Deserialize<'de> for OneType {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<OneType, D::Error> {
        match from.deserialize_any(Shapes::<Types>(PhantomData))? {
            Types::One(one) => Ok(OneType(one)),
            Types::Many(_) => Err(D::Error::custom(format_args!("a list is not a type: {TYPES}"))),
        }
    }
}

impl<'de> Visitor<'de> for Shapes<Types> {
    type Value = Types;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type or a list of types (string, integer, number, boolean, array, object, null)")
    }
    fn visit_str<E: Error>(self, given: &str) -> Result<Types, E> {
        one_type(given).map(Types::One)
    }
    // An unquoted `type: null` is the type, as in a list of types.
    fn visit_unit<E: Error>(self) -> Result<Types, E> {
        Ok(Types::One(Type::Null))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Types, A::Error> {
        let types = Vec::<OneType>::deserialize(SeqAccessDeserializer::new(items))?;
        match types.is_empty() {
            true => Err(A::Error::custom("type must name at least one type")),
            false => Ok(Types::Many(types.into_iter().map(|one| one.0).collect())),
        }
    }
}

impl<'de> Visitor<'de> for Shapes<Required> {
    type Value = Required;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a list of property names")
    }
    fn visit_bool<E: Error>(self, this: bool) -> Result<Required, E> {
        Ok(Required::This(this))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Required, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(items)).map(Required::Properties)
    }
}

impl<'de> Visitor<'de> for Shapes<Additional> {
    type Value = Additional;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a schema")
    }
    fn visit_bool<E: Error>(self, allowed: bool) -> Result<Additional, E> {
        Ok(Additional::Allowed(allowed))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Additional, A::Error> {
        Schema::deserialize(MapAccessDeserializer::new(map)).map(|schema| Additional::Schema(Box::new(schema)))
    }
}

impl<'de> Visitor<'de> for Shapes<Items> {
    type Value = Items;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schema or a list of schemas")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Items, A::Error> {
        Schema::deserialize(MapAccessDeserializer::new(map)).map(|schema| Items::All(Box::new(schema)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Items, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(items)).map(Items::Each)
    }
}

macro_rules! read_by_shape {
    ($($name:ident)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                from.deserialize_any(Shapes::<$name>(PhantomData))
            }
        }
    )*};
}

read_by_shape!(Types Required Additional Items);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::base::document::from_value;
    use crate::pack::param::Schema;

    #[test]
    fn errors_describe_valid_values() {
        for (text, says) in [
            (r#"{"type":"any"}"#, "type: \"any\" is not a type"),
            (r#"{"type":["string","text"]}"#, "type[1]: \"text\" is not a type"),
            (r#"{"type":[]}"#, "at least one"),
            (r#"{"type":7}"#, "type: must be a type or a list of types"),
            (r#"{"required":"yes"}"#, "required: must be true, false or a list of property names, not text"),
            (r#"{"items":{"type":"any"}}"#, "items.type: \"any\" is not a type"),
            (r#"{"items":[{"items":3}]}"#, "items[0].items: must be a schema"),
            (r#"{"additionalProperties":{"pattern":"("}}"#, "additionalProperties.pattern: "),
            (
                r#"{"properties":{"a":{"additionalItems":0}}}"#,
                "properties.a.additionalItems: must be true, false or a schema",
            ),
            (r#"{"minLength":-1}"#, "minLength: must be a whole number, 0 or more"),
            (r#"{"immutable":"x"}"#, "immutable: must be true or false, not text"),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            let said = from_value::<Schema>(&value).unwrap_err().to_string();
            assert!(said.contains(says), "{text}: {said}");
            serde_json::from_str::<Schema>(text).unwrap_err();
        }
    }
}
