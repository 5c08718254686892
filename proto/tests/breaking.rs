//! The protos may grow, never change: what an old client sends or an old store holds is read for
//! ever. `descriptor.bin` is the schema as it was promised; everything in it must still be there
//! with the same name, number and type. Additions pass, and become promises when the file is made
//! anew, at a release:
//!
//!     cd proto/proto && protoc -I . --include_imports --descriptor_set_out=../descriptor.bin \
//!         tocktower/v1/*.proto tocktower/store/v1/*.proto

use std::collections::BTreeMap;

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Every named thing of a schema, as a line: its full name, and what may not change about it.
fn promises(bytes: &[u8]) -> BTreeMap<String, String> {
    let set = FileDescriptorSet::decode(bytes).expect("a descriptor set");
    let mut found = BTreeMap::new();
    for file in &set.file {
        let package = file.package();
        if !package.starts_with("tocktower.") {
            continue;
        }
        file.message_type.iter().for_each(|message| walk_message(package, message, &mut found));
        file.enum_type.iter().for_each(|kind| walk_enum(package, kind, &mut found));
        for service in &file.service {
            for method in &service.method {
                found.insert(
                    format!("{package}.{}/{}", service.name(), method.name()),
                    format!(
                        "{} {} -> {} {}",
                        method.client_streaming(),
                        method.input_type(),
                        method.server_streaming(),
                        method.output_type()
                    ),
                );
            }
        }
    }
    found
}

fn walk_message(scope: &str, message: &DescriptorProto, found: &mut BTreeMap<String, String>) {
    let name = format!("{scope}.{}", message.name());
    found.insert(name.clone(), "message".to_owned());
    for field in &message.field {
        found.insert(format!("{name}#{}", field.number()), field_line(message, field));
    }
    message.nested_type.iter().for_each(|nested| walk_message(&name, nested, found));
    message.enum_type.iter().for_each(|kind| walk_enum(&name, kind, found));
}

fn field_line(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let oneof = field
        .oneof_index
        .and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?))
        .map(|oneof| oneof.name().to_owned());
    format!(
        "{} {:?} {:?} {} in {oneof:?}",
        field.name(),
        field.r#type(),
        field.label(),
        field.type_name()
    )
}

fn walk_enum(scope: &str, kind: &EnumDescriptorProto, found: &mut BTreeMap<String, String>) {
    for value in &kind.value {
        let place = format!("{scope}.{}#{}", kind.name(), value.number());
        found.insert(place, value.name().to_owned());
    }
}

/// What `old` promised and `new` does not keep.
fn broken(old: &[u8], new: &[u8]) -> Vec<String> {
    let now = promises(new);
    promises(old)
        .into_iter()
        .filter(|(place, promise)| now.get(place) != Some(promise))
        .map(|(place, promise)| match now.get(&place) {
            None => format!("{place} is gone; it was: {promise}"),
            Some(other) => format!("{place} was: {promise}; it is: {other}"),
        })
        .collect()
}

const PROMISED: &[u8] = include_bytes!("../descriptor.bin");

#[test]
fn nothing_that_was_promised_has_changed() {
    let broken = broken(PROMISED, tocktower_proto::FILE_DESCRIPTOR_SET);
    assert!(broken.is_empty(), "breaking changes of the protos:\n{}", broken.join("\n"));
}

#[test]
fn a_field_that_is_renumbered_removed_or_retyped_is_found() {
    let change = |edit: &dyn Fn(&mut DescriptorProto)| {
        let mut set = FileDescriptorSet::decode(PROMISED).unwrap();
        let task = set
            .file
            .iter_mut()
            .flat_map(|file| file.message_type.iter_mut())
            .find(|message| message.name() == "TaskRecord")
            .unwrap();
        edit(task);
        broken(PROMISED, &set.encode_to_vec()).len()
    };
    assert_eq!(change(&|_| ()), 0);
    assert_eq!(change(&|task| task.field[0].number = Some(99)), 1);
    assert_eq!(change(&|task| drop(task.field.remove(3))), 1);
    assert_eq!(change(&|task| task.field[3].name = Some("other".into())), 1);
    assert_eq!(change(&|task| task.field[3].type_name = Some("other".into())), 1);
    let added = FieldDescriptorProto { number: Some(999), ..Default::default() };
    assert_eq!(change(&|task| task.field.push(added.clone())), 0, "additions are no break");
}
