use super::{
    FieldKind, FieldShape, Mapping, MappingShape, RelationShape, StatementShape, file::Source,
};

const STATES: &[&str] = &["GOOD", "LOST"];

static SHAPE: MappingShape = MappingShape {
    relations: &[
        RelationShape {
            name: "thing",
            fields: &[
                FieldShape {
                    name: "number",
                    kind: FieldKind::Key,
                    optional: false,
                },
                FieldShape {
                    name: "place",
                    kind: FieldKind::Text,
                    optional: false,
                },
                FieldShape {
                    name: "since",
                    kind: FieldKind::Date,
                    optional: false,
                },
                FieldShape {
                    name: "state",
                    kind: FieldKind::Code(STATES),
                    optional: false,
                },
                FieldShape {
                    name: "until",
                    kind: FieldKind::Date,
                    optional: true,
                },
            ],
            required: true,
        },
        RelationShape {
            name: "owner",
            fields: &[FieldShape {
                name: "person",
                kind: FieldKind::Key,
                optional: false,
            }],
            required: false,
        },
    ],
    statements: &[
        StatementShape {
            name: "set_state",
            relation: "thing",
            further: &["cause"],
            must_use: &["number", "old_state"],
            many: false,
            required: true,
        },
        StatementShape {
            name: "put_owners",
            relation: "owner",
            further: &[],
            must_use: &["person"],
            many: true,
            required: true,
        },
    ],
};

const WHOLE: &str = r#"
[codes.state]
GOOD = ["1"]
LOST = ["2", "22"]

[thing]
relation = "office.things"
number = "NO1"
place = { constant = "370202" }
since = { column = "D1", date = "%Y%m%d" }
state = { column = "S1", codes = "state" }

[statements]
set_state = "UPDATE office.things SET s1 = :state, why = :cause WHERE no1 = :number AND s1 = :old_state"
"#;

fn faults(text: &str) -> Vec<String> {
    let faults = Mapping::parse(text, &SHAPE).unwrap_err();
    faults.0.iter().map(ToString::to_string).collect()
}

#[test]
fn a_whole_file_is_read() {
    let mapping = Mapping::parse(WHOLE, &SHAPE).unwrap();
    let thing = &mapping.relations[0];
    assert_eq!(
        (thing.schema.as_str(), thing.table.as_str()),
        ("office", "things")
    );
    assert_eq!(thing.fields[1], Source::Constant("370202".into()));
    let Source::Column {
        codes: Some(codes), ..
    } = &thing.fields[3]
    else {
        panic!("a code has its table")
    };
    assert_eq!(codes.name_of("22"), Some("LOST"));
    assert_eq!(codes.name_of("3"), None, "an unknown code is no default");
    assert_eq!(codes.written("LOST"), Some("2"), "the first is written");
    let statement = &mapping.statements[0].numbered;
    assert_eq!(
        statement.parameters,
        ["state", "cause", "number", "old_state"]
    );
}

#[test]
fn every_fault_comes_at_once_with_its_key_path() {
    let text = WHOLE
        .replace("office.things\"\nnumber", "things\"\nnumber")
        .replace("number = \"NO1\"", "")
        .replace("%Y%m%d", "%Y")
        .replace("LOST = [\"2\", \"22\"]", "LOST = [\"1\"]\nGONE = [\"3\"]")
        .replace(":cause", ":reason")
        .replace("AND s1 = :old_state", "")
        + "delete = \"DELETE FROM office.things\"\n";
    let faults = faults(&text);
    for (fault, expected) in faults.iter().zip([
        "thing.relation: must be a table or view with its schema",
        "thing.number: is required",
        "thing.since.date: must be a date format",
        "thing.state.codes: [codes.state]: GONE is none of GOOD, LOST",
        "thing.state.codes: [codes.state]: the code \"1\" stands for two names",
        "statements.set_state: :reason is no parameter of it",
        "statements.set_state: must use :old_state",
        "statements.delete: is not a key here",
    ]) {
        assert!(fault.starts_with(expected), "{expected}: {faults:#?}");
    }
    assert_eq!(faults.len(), 8, "{faults:#?}");
}

#[test]
fn what_may_be_left_out_is_left_out_and_nothing_else() {
    let mapping = Mapping::parse(WHOLE, &SHAPE).unwrap();
    assert_eq!(mapping.relations[0].fields[4], Source::Nothing);
    assert_eq!((mapping.relations.len(), mapping.statements.len()), (1, 1));
    let put = "put_owners = \"INSERT INTO office.owners SELECT unnest(:person)\"\n";
    assert_eq!(
        faults(&format!("{WHOLE}{put}")),
        ["statements.put_owners: writes what is not mapped: there is no [owner]"]
    );
    let owner = "[owner]\nrelation = \"office.owners\"\nperson = \"P1\"\n";
    assert_eq!(
        faults(&format!("{WHOLE}{owner}")),
        ["statements.put_owners: is required"]
    );
    let mapping = Mapping::parse(&format!("{WHOLE}{put}{owner}"), &SHAPE).unwrap();
    assert_eq!((mapping.relations.len(), mapping.statements.len()), (2, 2));
}

#[test]
fn what_is_written_has_a_code_for_each_name() {
    let found = faults(&WHOLE.replace("GOOD = [\"1\"]\n", ""));
    assert_eq!(
        found,
        ["statements.set_state: writes state, but no code is named for GOOD"]
    );
    let found = faults(&WHOLE.replace("codes = \"state\"", "codes = \"states\""));
    assert_eq!(
        found,
        ["thing.state.codes: there is no table [codes.states]"]
    );
    let found = faults(&WHOLE.replace("\"UPDATE", "\"DROP"));
    assert_eq!(
        found,
        ["statements.set_state: must begin with INSERT, UPDATE, MERGE or WITH"]
    );
    let found = faults(&WHOLE.replace("LOST = [\"2\", \"22\"]", "LOST = 2"));
    assert!(
        found[0].starts_with("codes.state.LOST: must be a list"),
        "{found:?}"
    );
}
