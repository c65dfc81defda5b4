//! The shape of a route: where it is, what it asks for, takes and gives. Routing, rights and the
//! OpenAPI document are made from this.

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::App;
use crate::gate::{Right, guard};

pub type Shape = fn(&mut SchemaGenerator) -> Schema;

#[derive(Clone, Copy)]
pub enum Body {
    None,
    Json(Shape),
    /// Of a media type.
    Text(&'static str),
}

pub struct Entry {
    pub method: &'static str,
    pub path: &'static str,
    pub right: Right,
    pub doc: &'static str,
    pub query: Option<Shape>,
    pub takes: Body,
    pub gives: Body,
    handler: MethodRouter<App>,
}

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Entry {
    fn new<H, T>(
        (method, filter): (&'static str, MethodFilter),
        path: &'static str,
        right: Right,
        doc: &'static str,
        handler: H,
    ) -> Entry
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let handler = on(filter, handler);
        Entry { method, path, right, doc, query: None, takes: Body::None, gives: Body::None, handler }
    }

    pub fn query<T: JsonSchema>(self) -> Entry {
        Entry { query: Some(shape::<T>), ..self }
    }

    pub fn takes<T: JsonSchema>(self) -> Entry {
        Entry { takes: Body::Json(shape::<T>), ..self }
    }

    pub fn takes_text(self, media_type: &'static str) -> Entry {
        Entry { takes: Body::Text(media_type), ..self }
    }

    pub fn gives<T: JsonSchema>(self) -> Entry {
        Entry { gives: Body::Json(shape::<T>), ..self }
    }

    pub fn gives_text(self, media_type: &'static str) -> Entry {
        Entry { gives: Body::Text(media_type), ..self }
    }
}

pub fn get<H: Handler<T, App>, T: 'static>(
    path: &'static str,
    right: Right,
    doc: &'static str,
    handler: H,
) -> Entry {
    Entry::new(("get", MethodFilter::GET), path, right, doc, handler)
}

pub fn post<H: Handler<T, App>, T: 'static>(
    path: &'static str,
    right: Right,
    doc: &'static str,
    handler: H,
) -> Entry {
    Entry::new(("post", MethodFilter::POST), path, right, doc, handler)
}

pub fn put<H: Handler<T, App>, T: 'static>(
    path: &'static str,
    right: Right,
    doc: &'static str,
    handler: H,
) -> Entry {
    Entry::new(("put", MethodFilter::PUT), path, right, doc, handler)
}

pub fn delete<H: Handler<T, App>, T: 'static>(
    path: &'static str,
    right: Right,
    doc: &'static str,
    handler: H,
) -> Entry {
    Entry::new(("delete", MethodFilter::DELETE), path, right, doc, handler)
}

/// Every route behind its guard.
pub fn router(entries: Vec<Entry>, app: &App) -> Router {
    let mut router = Router::new();
    for entry in entries {
        let guarded = entry.handler.layer(from_fn_with_state((app.clone(), entry.right), guard));
        router = router.route(entry.path, guarded);
    }
    router.with_state(app.clone())
}
