//! Small documents: what is in them is what a test is about.

/// A pod that sleeps, with this image in a container `app`.
pub(crate) fn pod(name: &str, image: &str) -> String {
    pod_with(name, &format!("{{ containers: [ {} ] }}", container("app", image)))
}

/// A pod with this spec, in flow style.
pub(crate) fn pod_with(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, labels: {{ app: {name} }} }}\nspec: {spec}\n"
    )
}

/// A container that does nothing, until it is told to stop.
pub(crate) fn container(name: &str, image: &str) -> String {
    format!(
        "{{ name: {name}, image: \"{image}\", command: [ /bin/sh, -c, \"trap exit TERM; while :; do sleep 1; done\" ] }}"
    )
}

/// A pod template with the label `app: NAME` and this image.
pub(crate) fn template(name: &str, image: &str) -> String {
    format!(
        "{{ metadata: {{ labels: {{ app: {name} }} }}, spec: {{ terminationGracePeriodSeconds: 1, containers: [ {} ] }} }}",
        container("app", image)
    )
}

/// A Deployment with these replicas.
pub(crate) fn deployment(name: &str, image: &str, replicas: u32) -> String {
    workload("Deployment", name, image, &format!("replicas: {replicas},"))
}

/// A StatefulSet with these replicas.
pub(crate) fn stateful_set(name: &str, image: &str, replicas: u32) -> String {
    workload("StatefulSet", name, image, &format!("replicas: {replicas}, serviceName: {name},"))
}

/// A DaemonSet.
pub(crate) fn daemon_set(name: &str, image: &str) -> String {
    workload("DaemonSet", name, image, "")
}

/// A workload of the group apps.
pub(crate) fn workload(kind: &str, name: &str, image: &str, fields: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ {fields} selector: {{ matchLabels: {{ app: {name} }} }}, template: {} }}\n",
        template(name, image)
    )
}

fn once(name: &str, image: &str) -> String {
    format!(
        "{{ metadata: {{ labels: {{ app: {name} }} }}, spec: {{ restartPolicy: Never, containers: [ {{ name: app, image: \"{image}\", command: [ /bin/true ] }} ] }} }}"
    )
}

/// A Job that ends at once.
pub(crate) fn job(name: &str, image: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{ name: {name} }}\nspec: {{ template: {} }}\n",
        once(name, image)
    )
}

/// A CronJob that runs every minute.
pub(crate) fn cron_job(name: &str, image: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{ name: {name} }}\nspec: {{ schedule: \"* * * * *\", jobTemplate: {{ spec: {{ template: {} }} }} }}\n",
        once(name, image)
    )
}
