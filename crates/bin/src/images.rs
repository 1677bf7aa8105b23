//! `impuls image`: builds, lists and removes what guests are made of.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use impuls_cli::{Exit, ImageBuildArgs, ImageCommand, ImageKernelArgs, ImageStoreArgs, Progress, text};
use impuls_images::build::{TIME, build};
use impuls_images::manifest::MadeOf;
use impuls_images::tool::Toolbox;
use impuls_images::{
    Architecture, BuildRequest, Entry, Format, ImageError, ImageManifest, ImageStore, KernelManifest,
    KernelRequest, Origin, Recipe, Sources, agent, kernel,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Where below the data folder images are kept.
pub(crate) const FOLDER: &str = "images";
/// How many digits of a digest people are shown.
const DIGITS: usize = 19;

/// Performs the command. What fails is told on standard error; the exit code is that of the other subcommands.
pub(crate) fn image(command: ImageCommand, as_json: bool) -> ExitCode {
    let done = match command {
        ImageCommand::Build(args) => build_image(&args, as_json),
        ImageCommand::List(args) => list(&args, as_json),
        ImageCommand::Inspect { image, store } => inspect(&image, &store, as_json),
        ImageCommand::Rm { images, store } => remove(&images, &store, as_json),
        ImageCommand::Kernel(args) => find_kernel(&args, as_json),
    };
    let Err(error) = done else { return Exit::Success.into() };
    // Nothing is left to do if standard error is closed.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    let absent = error.downcast_ref::<ImageError>().is_some_and(ImageError::is_not_found);
    if absent { Exit::NotFound.into() } else { Exit::Usage.into() }
}

fn store(args: &ImageStoreArgs) -> anyhow::Result<ImageStore> {
    Ok(ImageStore::new(args.data_dir().choose()?.join(FOLDER)))
}

fn architecture(name: Option<&str>) -> Result<Architecture, ImageError> {
    name.map_or(Ok(Architecture::of_this_machine()), str::parse)
}

fn build_image(args: &ImageBuildArgs, as_json: bool) -> anyhow::Result<()> {
    let store = store(&args.store)?;
    let tools = Toolbox::new(&args.search_path);
    let request = request(args)?;
    let progress = Progress::start(as_json, format!("building {}", request.recipe));
    let steps = |text: &str| progress.set(text.to_owned());
    if args.kernel.is_some() {
        kernel::kernel(&store, &given_kernel(args, request.architecture), &tools, &steps)?;
    }
    let image = build(&store, &request, &tools, &steps)?;
    drop(progress);
    let path = delivered(&store.path(&image.digest), args.output.as_deref())?;
    if as_json {
        return print_json(&with_path(json!(image), &path));
    }
    let what = format!("{} ({}, {}): {}", image.name, image.format, text::size(image.size), image.digest);
    print(&what, &path)
}

fn request(args: &ImageBuildArgs) -> anyhow::Result<BuildRequest> {
    let (recipe, origin) = match &args.from_oci {
        Some(file) => {
            let text = file.to_string_lossy();
            if text.contains("://") {
                bail!(
                    "images are not fetched: `skopeo copy {text} oci-archive:image.tar`, and give the file to --from-oci"
                );
            }
            (Recipe::of_oci(&args.runtime)?, Origin::Oci(file.clone()))
        }
        None => {
            let sources = Sources::read(Path::new("/etc"), args.apt_sources.clone());
            let recipe = Recipe::of_packages(&args.runtime, args.suite.as_deref(), sources.codename())?;
            (recipe, Origin::Debian(sources))
        }
    };
    let format = match &args.format {
        _ if args.oci => Format::Oci,
        Some(format) => format.parse()?,
        None => Format::Squashfs,
    };
    let mut tags = args.tag.clone();
    if tags.is_empty() {
        tags.push(format!("impuls-{}:latest", recipe.name().replace('+', "-")));
    }
    Ok(BuildRequest {
        format,
        tags,
        architecture: architecture(args.arch.as_deref())?,
        agent: agent_file(args)?,
        time: args.source_date_epoch.unwrap_or(TIME),
        now: OffsetDateTime::now_utc(),
        recipe,
        origin,
    })
}

fn agent_file(args: &ImageBuildArgs) -> anyhow::Result<PathBuf> {
    match args.agent.clone().filter(|path| !path.as_os_str().is_empty()) {
        Some(given) => Ok(given),
        None => Ok(std::env::current_exe().context("cannot find this program")?.with_file_name(agent::NAME)),
    }
}

fn given_kernel(args: &ImageBuildArgs, architecture: Architecture) -> KernelRequest {
    let (kernel, now) = (args.kernel.clone(), OffsetDateTime::now_utc());
    KernelRequest { kernel, source: None, architecture, kvm_pvm: false, rebuild: false, jobs: 1, now }
}

fn find_kernel(args: &ImageKernelArgs, as_json: bool) -> anyhow::Result<()> {
    let store = store(&args.store)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let request = KernelRequest {
        kernel: args.kernel.clone(),
        source: args.source.clone(),
        architecture: architecture(args.arch.as_deref())?,
        kvm_pvm: args.kvm_pvm,
        rebuild: args.rebuild,
        jobs: args.jobs.map_or(processors, usize::from),
        now: OffsetDateTime::now_utc(),
    };
    let progress = Progress::start(as_json, "looking for a kernel".to_owned());
    let steps = |text: &str| progress.set(text.to_owned());
    let kernel = kernel::kernel(&store, &request, &Toolbox::new(&args.search_path), &steps)?;
    drop(progress);
    let path = delivered(&store.path(&kernel.digest), args.output.as_deref())?;
    if as_json {
        return print_json(&with_path(json!(kernel), &path));
    }
    print(&format!("Linux {} ({}, {})", kernel.version, kernel.architecture, text::size(kernel.size)), &path)
}

/// Copies what is kept to where it is wanted besides, at once or not at all; says where it lies.
fn delivered(kept: &Path, output: Option<&Path>) -> anyhow::Result<PathBuf> {
    let Some(output) = output else { return Ok(kept.to_owned()) };
    let name = output.file_name().context("--output names no file")?;
    let scratch = output.with_file_name(format!(".{}.part", name.to_string_lossy()));
    let copied = fs::copy(kept, &scratch).and_then(|_| fs::rename(&scratch, output));
    if copied.is_err() {
        // It may not even exist.
        let _ = fs::remove_file(&scratch);
    }
    copied.with_context(|| format!("cannot write {}", output.display()))?;
    Ok(output.to_owned())
}

fn list(args: &ImageStoreArgs, as_json: bool) -> anyhow::Result<()> {
    let store = store(args)?;
    let entries = store.entries()?;
    if as_json {
        let entries: Vec<Value> =
            entries.iter().map(|entry| with_path(json!(entry), &store.path(entry.digest()))).collect();
        return print_json(&json!({ "count": entries.len(), "images": entries }));
    }
    let row = |entry: &Entry| {
        let (architecture, what, size) = match entry {
            Entry::Image(image) => (image.architecture, image.format.to_string(), image.size),
            Entry::Kernel(kernel) => (kernel.architecture, kernel_text(kernel), kernel.size),
        };
        let digest: String = entry.digest().chars().take(DIGITS).collect();
        let created = entry.created().to_owned();
        [entry.name().to_owned(), architecture.to_string(), what, text::size(size), digest, created]
    };
    let header = ["NAME", "ARCHITECTURE", "WHAT", "SIZE", "DIGEST", "CREATED"];
    let rows: Vec<[String; 6]> = entries.iter().map(row).collect();
    print_line(&text::table(header, rows, std::io::IsTerminal::is_terminal(&std::io::stdout())))
}

fn kernel_text(kernel: &KernelManifest) -> String {
    let patch = if kernel.kvm_pvm { ", kvm-pvm" } else { "" };
    format!("{}{patch}", kernel.version)
}

fn inspect(reference: &str, args: &ImageStoreArgs, as_json: bool) -> anyhow::Result<()> {
    let store = store(args)?;
    let entry = store.find(reference)?;
    store.verify(&entry)?;
    let path = store.path(entry.digest());
    if as_json {
        return print_json(&with_path(json!(entry), &path));
    }
    let place = path.display().to_string();
    let pairs = match &entry {
        Entry::Image(image) => image_pairs(image, place),
        Entry::Kernel(kernel) => vec![
            ("kernel", kernel_text(kernel)),
            ("architecture", kernel.architecture.to_string()),
            ("digest", kernel.digest.clone()),
            ("size", text::size(kernel.size)),
            ("created", kernel.created.clone()),
            ("made of", kernel.made_of.clone()),
            ("path", place),
        ],
    };
    print_line(&text::pairs(pairs))
}

fn image_pairs(image: &ImageManifest, place: String) -> Vec<(&'static str, String)> {
    let made_of = match &image.made_of {
        MadeOf::Debian { suite, packages } => {
            let lines = packages.iter().map(|package| format!("{} {}", package.name, package.version));
            format!("Debian {suite}, {} packages\n{}", packages.len(), lines.collect::<Vec<_>>().join("\n"))
        }
        MadeOf::Oci { config, layers } => format!("OCI image {config}\n{}", layers.join("\n")),
    };
    let launch =
        |launch: &impuls_images::manifest::Launch| format!("{}: {}", launch.runtime, launch.argv.join(" "));
    let launches: Vec<String> = image.launches.iter().map(launch).collect();
    vec![
        ("image", image.name.clone()),
        ("architecture", image.architecture.to_string()),
        ("format", image.format.to_string()),
        ("digest", image.digest.clone()),
        ("size", text::size(image.size)),
        ("created", image.created.clone()),
        ("agent", format!("{} {}", image.agent.path, image.agent.digest)),
        ("starts", launches.join("\n")),
        ("path", place),
        ("made of", made_of),
    ]
}

fn remove(images: &[String], args: &ImageStoreArgs, as_json: bool) -> anyhow::Result<()> {
    let store = store(args)?;
    for image in images {
        let digest = store.remove(image)?;
        if as_json {
            print_json(&json!({ "removed": digest }))?;
        } else {
            print_line(&format!("{digest} removed"))?;
        }
    }
    Ok(())
}

fn with_path(mut value: Value, path: &Path) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.insert("path".to_owned(), json!(path));
    }
    value
}

fn print_json(value: &Value) -> anyhow::Result<()> {
    print_line(&format!("{value:#}"))
}

/// What was made goes to people, where it is goes to scripts.
fn print(what: &str, path: &Path) -> anyhow::Result<()> {
    // Where nobody listens, nothing is lost.
    let _ = writeln!(std::io::stderr(), "{what}");
    print_line(&path.display().to_string())
}

fn print_line(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        // The reader of a pipe has seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the result")
        }
        _ => Ok(()),
    }
}
