use super::*;

fn protects(path: &str) -> Option<&'static str> {
    let root = Path::new("/home/u/p");
    Shield::default()
        .protects(root, &root.join(path))
        .map(|found| found.pattern)
}

#[test]
fn the_list_can_be_read() {
    assert!(List::is_whole());
}

#[test]
fn f04_what_runs_by_itself_is_protected_at_any_depth() {
    let cases = [
        (".git", Some(".git")),
        (".git/index", None),
        (".git/config", Some(".git/config")),
        (".git/config.lock", None),
        (".git/hooks/pre-commit", Some(".git/hooks")),
        ("deep/er/.git/hooks", Some(".git/hooks")),
        ("deep/.git", Some(".git")),
        (".git/modules/a/b/config", Some(".git/modules/**/config")),
        (".git/modules/a/index", None),
        (".git/refs/heads/config", None),
        (".git/refs/remotes/origin/HEAD", None),
        ("sub/HEAD", Some("HEAD")),
        ("sub/head", None),
        ("sub/config", None),
        (".bashrc", Some(".bashrc")),
        ("a/.envrc", Some(".envrc")),
        (".mcp.json", Some(".mcp.json")),
        ("a/.vscode/tasks.json", Some(".vscode")),
        (".claude/settings.local.json", Some(".claude/settings*")),
        (".claude/hooks/x", Some(".claude/hooks")),
        (".claude/notes", None),
        ("x.code-workspace", Some("*.code-workspace")),
        (".cordon/policy/a.cedar", Some(".cordon")),
        ("src/main.rs", None),
        (".gitignore", None),
        (".github/ISSUE_TEMPLATE.md", None),
    ];
    for (path, pattern) in cases {
        assert_eq!(protects(path), pattern, "{path}");
    }
}

#[test]
fn f04_case_and_what_file_systems_overlook_make_no_difference() {
    for path in [
        ".GIT/Config",
        ".Git/HOOKS/x",
        ".v\u{17f}code/tasks.json",
        ".git/hoo\u{212a}s/x",
        ".en\u{200b}vrc",
        ".BashRC",
    ] {
        assert!(protects(path).is_some(), "{path}");
    }
    assert!(protects("caf\u{e9}/x").is_none());
}

#[test]
fn f04_continuous_integration_is_protected_where_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir_all(root.join("repo/.git")).unwrap();
    let cases = [
        (".github/workflows/ci.yml", true),
        (".gitlab-ci.yml", true),
        ("repo/.github/workflows/ci.yml", true),
        ("repo/.travis.yml", true),
        ("plain/.travis.yml", false),
        ("node_modules/a/.github/workflows/ci.yml", false),
    ];
    for (path, protected) in cases {
        let found = Shield::default().protects(root, &root.join(path));
        assert_eq!(found.is_some(), protected, "{path}");
    }
}

#[test]
fn packages_may_bring_what_nobody_reads_there() {
    assert!(protects("node_modules/a/.vscode/settings.json").is_none());
    assert!(protects("vendor/a/.envrc").is_none());
    assert!(protects("node_modules/a/.git/hooks/x").is_some());
    assert!(protects("src/.vscode/settings.json").is_some());
}

#[test]
fn what_is_granted_by_itself_is_not_protected_by_its_own_name() {
    let shield = Shield::default();
    let cases = [
        ("/p/.github/workflows", "ci.yml", false),
        ("/p/.vscode", "tasks.json", false),
        ("/p/.vscode", "a/.git/hooks", true),
        ("/p/.git", "hooks/x", true),
        ("/p/.git", "index", false),
        ("/p/.git", "HEAD", false),
    ];
    for (root, below, protected) in cases {
        let path = Path::new(root).join(below);
        let found = shield.protects(Path::new(root), &path);
        assert_eq!(found.is_some(), protected, "{root} {below}");
    }
}

#[test]
fn f07_a_folder_that_holds_or_would_hold_something_protected_is_known() {
    let shield = Shield::new(vec![Added {
        path: "/p/a/gone/config".into(),
        protection: Protection {
            pattern: "x",
            why: "y",
        },
    }]);
    let cases = [
        (".claude", true),
        ("deep/.claude", true),
        (".github", true),
        (".git", true),
        (".git/modules/x", true),
        ("a", true),
        ("a/gone", true),
        ("a/gone/config", false),
        ("src", false),
        (".config", true),
    ];
    for (path, holds) in cases {
        let found = shield.holds(Path::new("/p"), &Path::new("/p").join(path));
        assert_eq!(found.is_some(), holds, "{path}");
    }
}

#[test]
fn f06_what_a_git_file_points_at_is_protected_there_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("odd/hooks/pre-commit", "x");
    write("odd/commondir", "../common\n");
    write("common/config", "[core]\n\thooksPath = ../my hooks\n");
    write("work/.git", "gitdir: ../odd\n");
    write("dangling/.git", "gitdir: ../never/there");
    write("bare/HEAD", "ref: x");
    write("bare/objects/x", "x");
    write("bare/refs/x", "x");
    write("bare/config", "x");
    std::os::unix::fs::symlink("odd", root.join("linked.git")).unwrap();

    let found = scan(&root);
    let shield = Shield::new(found.added.clone());
    for path in [
        "odd/hooks/post-commit",
        "odd/config",
        "odd/commondir",
        "common/config",
        "common/hooks/x",
        "my hooks/pre-commit",
        "never/there/config",
        "bare/config",
        "bare/hooks",
        "work/.git",
    ] {
        assert!(shield.protects(&root, &root.join(path)).is_some(), "{path}");
    }
    for path in ["odd/index", "work/x", "common/objects/x", "never/else"] {
        assert!(shield.protects(&root, &root.join(path)).is_none(), "{path}");
    }
    let present: Vec<&Path> = found
        .present
        .iter()
        .map(|path| path.strip_prefix(&root).unwrap())
        .collect();
    let expected = [
        "bare/HEAD",
        "bare/config",
        "common/config",
        "dangling/.git",
        "odd/commondir",
        "odd/hooks",
        "work/.git",
    ];
    assert_eq!(present, expected.map(Path::new));
}

#[test]
fn a_scan_finds_what_is_there_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for path in [
        ".git/hooks/x",
        ".git/objects/aa/x",
        ".git/config",
        ".git/modules/m/config",
        "a/b/.vscode/x",
        "a/b/c/d/e/.vscode/x",
        "node_modules/m/.vscode/x",
    ] {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), "x").unwrap();
    }
    let found = scan(&root);
    let expected = [
        ".git/config",
        ".git/hooks",
        ".git/modules/m/config",
        "a/b/.vscode",
    ];
    assert_eq!(found.present, expected.map(|path| root.join(path)));
    assert!(found.cut);
}
