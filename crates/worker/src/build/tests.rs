use impuls_sandbox::StartMethod;

use super::*;

fn variables(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn build(environment: BTreeMap<String, String>) -> Build {
    let image = RuntimeImage {
        name: "nodejs20".parse().unwrap(),
        mounts: Vec::new(),
        links: Vec::new(),
        files: Vec::new(),
        argv: vec!["/bin/true".to_owned()],
        steered_argv: Vec::new(),
        warm_argument: "",
        start: StartMethod::Exec,
        tmp_mib: 64,
        idle_memory_mib: 1,
    };
    Build {
        recipe: "node 20".to_owned(),
        image: Arc::new(image),
        inputs: Inputs::All,
        files: BTreeMap::new(),
        steps: Vec::new(),
        environment,
        output: "/out".to_owned(),
        network: true,
        seed: None,
        hints: Vec::new(),
    }
}

#[test]
fn the_operators_variables_replace_the_languages_and_change_the_key() {
    let plan = |operators: &[(&str, &str)]| {
        let settings = BuildSettings { environment: variables(operators), ..BuildSettings::default() };
        let language = variables(&[("HOME", "/tmp"), ("npm_config_cache", "/tmp/npm")]);
        (BuildPlan::new(build(language), Vec::new(), &settings.environment), settings)
    };
    let (plain, _) = plan(&[]);
    let (other, settings) = plan(&[("npm_config_cache", "/tmp/other")]);
    assert_eq!(plain.key, plan(&[]).0.key);
    assert_ne!(plain.key, other.key);
    let env = other.order(&settings, false).env;
    assert_eq!(env, BTreeMap::from([("HOME", "/tmp"), ("npm_config_cache", "/tmp/other")]));
}
