//! Leases as an operator sees them, through etcd's own HTTP gateway.

use serde_json::{Value, json};

use super::api::now;
use super::etcd::EtcdCluster;

impl EtcdCluster {
    /// Revokes the lease with the most keys: that of the agent which holds the most ranges.
    pub async fn revoke_fullest_lease(&self) {
        let mut fullest = (0, Value::Null);
        let leases = self.lease("leases", &json!({})).await;
        for lease in leases["leases"].as_array().expect("there are leases") {
            let asked = json!({"ID": lease["ID"], "keys": true});
            let told = self.lease("timetolive", &asked).await;
            let keys = told["keys"].as_array().map_or(0, Vec::len);
            if keys >= fullest.0 {
                fullest = (keys, lease["ID"].clone());
            }
        }
        let begun = now();
        self.lease("revoke", &json!({"ID": fullest.1})).await;
        println!("a lease with {} keys was revoked in {:?}", fullest.0, now() - begun);
    }

    async fn lease(&self, what: &str, asked: &Value) -> Value {
        let url = format!("{}/v3/lease/{what}", self.endpoint(0));
        let answer = reqwest::Client::new().post(url).json(asked).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        answer.expect("etcd answers").json().await.expect("JSON")
    }
}
