//! Types of Puppet as schemas: values that Puppet takes fit, others do not.

use packs_schema::base::document::from_value;
use packs_schema::pack::param::{Schema, check::check};
use serde_json::{Value, json};

use super::*;

fn aliases() -> Aliases {
    let mut aliases = Aliases::default();
    aliases.add(
        "# @summary Level.\ntype Shapes::Level = Variant[\n  Integer[1, 5], # low to high\n  Enum[low, high],\n]\n",
    );
    aliases.add("type Shapes::Options = Struct[{ level => Shapes::Level, Optional['note'] => String[1] }]\n");
    aliases
}

fn schema(text: &str) -> (Schema, Shape) {
    let shape = shape(&types::parse(text).unwrap(), &aliases()).unwrap();
    let value = Value::Object(shape.schema());
    let schema: Schema = from_value(&value).unwrap_or_else(|error| panic!("{text}: {value}: {error}"));
    assert!(schema.findings("").is_empty(), "{text}: {value}: {:?}", schema.findings(""));
    (schema, shape)
}

#[test]
fn a_type_takes_what_puppet_takes() {
    for (text, fit, others) in [
        ("String", vec![json!(""), json!("a")], vec![json!(1), json!(null)]),
        ("String[1]", vec![json!("a")], vec![json!("")]),
        ("String[2, 4]", vec![json!("ab"), json!("grün")], vec![json!("a"), json!("abcde")]),
        ("String['all']", vec![json!("all")], vec![json!("al")]),
        ("Enum[a, 'b c']", vec![json!("b c")], vec![json!("b"), json!(1)]),
        ("Enum[Yes, no, true]".replace("Yes", "yes").as_str(), vec![json!("YES"), json!("no")], vec![json!("yesno")]),
        ("Pattern[/\\Aa+\\z/, /\\Ab\\z/]", vec![json!("aa"), json!("b")], vec![json!("ab"), json!("a\n")]),
        ("Integer[3]", vec![json!(3)], vec![json!(2), json!("3"), json!(3.5)]),
        ("Integer[default, 4]", vec![json!(-9)], vec![json!(5)]),
        ("Float[0.5, 1.0]", vec![json!(0.5)], vec![json!(0.4), json!(1.1)]),
        ("Numeric", vec![json!(1), json!(1.5)], vec![json!("1")]),
        ("Boolean", vec![json!(true), json!(false)], vec![json!("true")]),
        ("Boolean[true]", vec![json!(true)], vec![json!(false)]),
        ("Optional[Integer]", vec![json!(null), json!(1)], vec![json!("")]),
        ("Optional['all']", vec![json!(null), json!("all")], vec![json!("x")]),
        ("Variant[Boolean, Enum['true', 'false']]", vec![json!(true), json!("false")], vec![json!("x"), json!(0)]),
        ("Variant[Pattern[/\\A[0-9]*\\z/], Integer]", vec![json!("12"), json!(12)], vec![json!("a"), json!(1.5)]),
        ("Variant[Enum['a.b'], Integer[1]]", vec![json!("a.b"), json!(1)], vec![json!("axb"), json!(0)]),
        ("Variant[Enum[a], Pattern[/\\Ab/]]", vec![json!("a"), json!("bc")], vec![json!("ab"), json!("c")]),
        ("Variant[Integer[1, 2], Integer[3, 4]]", vec![json!(1), json!(4)], vec![json!(0), json!(5)]),
        ("Variant[String, Array[String]]", vec![json!("a"), json!(["a"])], vec![json!([1]), json!({})]),
        ("Array[Integer, 1, 2]", vec![json!([1]), json!([1, 2])], vec![json!([]), json!([1, 2, 3]), json!(["a"])]),
        ("Array[1]", vec![json!(["a"])], vec![json!([])]),
        ("Tuple[String, Integer]", vec![json!(["a", 1])], vec![json!(["a"]), json!(["a", "b"]), json!(["a", 1, 2])]),
        ("Tuple[String, Integer, 1, 3]", vec![json!(["a"]), json!(["a", 1, 2])], vec![json!([]), json!(["a", 1, "b"])]),
        ("Hash[String, Integer]", vec![json!({}), json!({"a": 1})], vec![json!({"a": "b"}), json!([])]),
        ("Hash[Enum[a, b], Integer]", vec![json!({"b": 1})], vec![json!({"c": 1}), json!({"a": "x"})]),
        ("Hash[Pattern[/\\A[a-z]+\\z/], Boolean]", vec![json!({"a": true})], vec![json!({"A": true}), json!({"a": 1})]),
        ("Hash[String, String, 1]", vec![json!({"a": "b"})], vec![json!({})]),
        ("Shapes::Level", vec![json!(5), json!("low")], vec![json!(6), json!("mid")]),
        (
            "Shapes::Options",
            vec![json!({"level": "low"}), json!({"level": 1, "note": "x"})],
            vec![json!({}), json!({"level": 9}), json!({"level": 1, "other": 1}), json!({"level": 1, "note": ""})],
        ),
        ("TargetSpec", vec![json!("a"), json!(["a", "b"])], vec![json!(""), json!(1), json!([[]])]),
        ("Stdlib::Port", vec![json!(0), json!(65535)], vec![json!(65536), json!(-1)]),
        ("Stdlib::Absolutepath", vec![json!("/etc/x y")], vec![json!("etc"), json!("/a\nb")]),
        (
            "Stdlib::Host",
            vec![json!("a.example"), json!("192.0.2.1"), json!("2001:db8::1")],
            vec![json!("a b"), json!("")],
        ),
        ("Stdlib::HTTPUrl", vec![json!("HTTPS://a/b")], vec![json!("ftp://a")]),
        ("Stdlib::Filemode", vec![json!("0644"), json!("u+x,g=r")], vec![json!("9"), json!("rw")]),
        ("Sensitive[String[1]]", vec![json!("a")], vec![json!("")]),
        ("NotUndef[Optional[String]]", vec![json!("a")], vec![json!(null)]),
        ("Any", vec![json!(null), json!([1]), json!("a")], vec![]),
        ("Data", vec![json!({"a": [null]})], vec![]),
        ("Scalar", vec![json!(1.5), json!("a"), json!(true)], vec![json!([]), json!(null)]),
        ("Collection", vec![json!([]), json!({})], vec![json!("a")]),
    ] {
        let (schema, shape) = schema(text);
        for value in fit {
            assert!(check(&schema, &value).is_empty(), "{text} takes {value}: {schema:?}");
        }
        for value in others {
            assert!(!check(&schema, &value).is_empty(), "{text} refuses {value}: {schema:?}");
        }
        assert!(shape.looser.is_empty(), "{text}: {:?}", shape.looser);
    }
}

#[test]
fn a_restriction_that_is_lost_is_named() {
    for (text, lost) in [
        ("Variant[Integer[1, 2], Integer[8, 9]]", "a gap between the bounds"),
        ("Variant[String[1, 2], String[8, 9]]", "a gap between the lengths"),
        ("Variant[Array[String], Array[Integer]]", "which of several kinds of lists"),
        ("Variant[Hash[String, String], Struct[{a => Integer}]]", "which of several kinds of objects"),
        ("Variant[Boolean[true], Integer]", "which of true and false"),
        ("Variant[String[5, 9], Enum[a]]", "the length or the pattern"),
        ("Pattern[/(a)\\1/]", "refers back"),
        ("Hash[Integer, String]", "the type of keys"),
        ("Integer[0, 99999999999999999999]", "a bound that is no integer of 64 bits"),
        ("Integer[0.5]", "a bound that is no integer of 64 bits"),
        ("Foo::Bar", "the type Foo::Bar, which is not known here"),
    ] {
        let (_, shape) = schema(text);
        assert!(shape.looser.iter().any(|said| said.contains(lost)), "{text}: {:?}", shape.looser);
    }
}

#[test]
fn secrets_are_found_inside_of_types() {
    for text in
        ["Sensitive[String]", "Optional[Sensitive[String]]", "Array[Sensitive]", "Struct[{a => Sensitive[String]}]"]
    {
        assert!(schema(text).1.secret, "{text}");
    }
    assert!(!schema("Optional[String]").1.secret);
}

#[test]
fn every_alias_of_stdlib_is_a_type() {
    for line in STDLIB.lines() {
        let name = line.split(' ').next().unwrap();
        let (_, shape) = schema(name);
        assert!(shape.looser.is_empty(), "{name}: {:?}", shape.looser);
    }
}
