//! OpenAPI 3.1, made from the table of routes and the types of their bodies.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::gate::Right;
use crate::routes::entries;
use crate::table::{Body, Entry};

pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let failure = generator.subschema_for::<evenkeel_api::Failure>();
    let mut paths: Map<String, Value> = Map::new();
    for entry in entries() {
        let mut operation = Map::new();
        operation.insert("summary".into(), json!(entry.doc));
        operation.insert("operationId".into(), json!(name_of(&entry)));
        operation.insert("tags".into(), json!([tag(entry.path)]));
        operation.insert("x-right".into(), json!(format!("{:?}", entry.right).to_lowercase()));
        if entry.right == Right::Open {
            operation.insert("security".into(), json!([]));
        }
        let mut parameters: Vec<Value> = parameters_of(entry.path);
        if let Some(query) = entry.query {
            let schema = query(&mut generator);
            parameters.extend(query_parameters(&schema.to_value(), generator.definitions()));
        }
        if !parameters.is_empty() {
            operation.insert("parameters".into(), json!(parameters));
        }
        let mut body = |body: Body| match body {
            Body::None => None,
            Body::Json(shape) => {
                Some(json!({ "application/json": { "schema": shape(&mut generator).to_value() } }))
            }
            Body::Text(media) => Some(json!({ media: { "schema": { "type": "string" } } })),
        };
        if let Some(content) = body(entry.takes) {
            operation.insert("requestBody".into(), json!({ "required": true, "content": content }));
        }
        let mut good = json!({ "description": "done" });
        if let Some(content) = body(entry.gives) {
            good["content"] = content;
        }
        let problem = json!({ "description": "not done, and why", "content": { "application/problem+json": { "schema": failure } } });
        operation.insert("responses".into(), json!({ "200": good, "4XX": problem, "5XX": problem }));
        let place = paths.entry(entry.path).or_insert_with(|| json!({}));
        place[entry.method] = Value::Object(operation);
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Evenkeel",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything that the web UI and the command line do. Lists take `offset` and `limit`; how many there are is in `X-Total-Count`. Changes of the configuration take `If-Match` with the ETag of `/api/v1/configuration`.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": crate::gate::COOKIE },
            },
        },
    })
}

fn name_of(entry: &Entry) -> String {
    let path = entry.path.trim_start_matches("/api/v1").replace(['/', '{', '}', '.'], "-");
    let words = path.split('-').filter(|w| !w.is_empty());
    std::iter::once(entry.method).chain(words).collect::<Vec<_>>().join("-")
}

fn tag(path: &str) -> &str {
    path.trim_start_matches("/api/v1/").split(['/', '.']).next().unwrap_or("")
}

fn parameters_of(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let of = |name: &str| match name {
        "revision" => json!({ "type": "integer", "minimum": 0 }),
        _ => json!({ "type": "string", "minLength": 1 }),
    };
    names.map(|n| json!({ "name": n, "in": "path", "required": true, "schema": of(n) })).collect()
}

/// Each property of a query's type is a parameter.
fn query_parameters(schema: &Value, definitions: &Map<String, Value>) -> Vec<Value> {
    let name = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next());
    let schema = name.and_then(|n| definitions.get(n)).unwrap_or(schema);
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    let of = |(name, schema): (&String, &Value)| json!({ "name": name, "in": "query", "required": false, "schema": schema });
    properties.iter().map(of).collect()
}
