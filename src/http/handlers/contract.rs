//! /v1/openapi.json and the page at /

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

const OPENAPI: &str = include_str!("../openapi.json");
const PAGE: &str = include_str!("../page.html");
/// The page is one file that asks this node and nobody else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub async fn openapi() -> Response {
    typed(OPENAPI, "application/json")
}

pub async fn page() -> Response {
    let mut response = typed(PAGE, "text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn typed(text: &'static str, media: &'static str) -> Response {
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::http::hot::HOT;

    /// Path and methods of each `.route("...")` line, and of those that the guard takes.
    fn routes() -> BTreeMap<String, Vec<String>> {
        let source = include_str!("../router.rs");
        let calls = source.split(".route(\"").skip(1);
        let mut routes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for call in calls {
            let (path, rest) = call.split_once('"').expect("a path in quotes");
            let rest = rest.split("\n        .").next().unwrap_or(rest);
            let methods = ["get", "post", "put", "patch", "delete"];
            let used = methods
                .into_iter()
                .filter(|method| rest.contains(&format!(" {method}(")) || rest.contains(&format!(").{method}(")));
            routes.entry(path.to_owned()).or_default().extend(used.map(str::to_owned));
        }
        for (path, _) in HOT {
            routes.entry(path.to_owned()).or_default().push("post".to_owned());
        }
        routes
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
        let paths = document["paths"].as_object().expect("paths");
        let routes = routes();
        assert!(routes.len() > 30, "{routes:?}");
        for (path, methods) in &routes {
            let described: Vec<_> = paths
                .get(path)
                .and_then(Value::as_object)
                .map(|path| path.keys().cloned().collect())
                .unwrap_or_default();
            let (mut methods, mut described) = (methods.clone(), described);
            methods.sort();
            described.sort();
            assert_eq!(methods, described, "{path}");
        }
        assert_eq!(paths.len(), routes.len());
    }

    #[test]
    fn every_field_of_a_job_is_described() {
        let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
        let described = &document["components"]["schemas"]["Job"]["properties"];
        for field in crate::api::Field::ALL {
            assert!(described[field.name()].is_object(), "{}", field.name());
        }
    }
}
