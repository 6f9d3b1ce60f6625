"""All programs that `make agents` runs."""

from pathlib import Path

from sandbox.llama.script import say
from tests.agents.programs import (
    CLIENTS_NODE_MODULES,
    MACHINE,
    NODE,
    NODE_MODULES,
    QUICK_NODE_MODULES,
    Program,
    Step,
    runs,
    writes,
)

BIN = f"{NODE_MODULES}/.bin"
DRIVERS = Path(__file__).parent / "drivers"
AGENTS_PYTHON = ".venv-agents/bin/python"
WRITE_FILE = writes("write_file", "path", "content")


def whole_file(file: Path, content: str) -> Step:
    """Return aider's format for a model that it does not know: the file in the text."""
    return say(f"{file.name}\n```\n{content}\n```\n")


def driver(
    name: str,
    title: str,
    package: str,
    page: str,
    script: str,
    *,
    language: str = "python",
    number: int = 0,
    executable: str = AGENTS_PYTHON,
    responses: bool = True,
    quick: bool = False,
) -> Program:
    """Return an SDK, driven by a script that takes the turns' prompts as its arguments."""
    suffix = "py" if language == "python" else "mjs"
    start = (str(DRIVERS / script),) if language == "python" else (f"{{folder}}/{script}",)
    return Program(
        name,
        title,
        package,
        executable,
        page,
        command=(*start, "{prompt}"),
        resume=(*start, "{first}", "{prompt}"),
        write=WRITE_FILE,
        files={f"project/configuration.{suffix}": (language, number)},
        variables={"PYTHONPATH": "{folder}"},
        needs=() if language == "python" else (CLIENTS_NODE_MODULES,),
        responses=responses,
        quick=quick,
    )


# Options of every start.
CONTINUE = ("--config", "{home}/.continue/config.yaml", "--auto")
AIDER = (
    *("--model", "openai/default", "--timeout", "3600", "--yes-always"),
    *("--no-show-release-notes", "--no-gitignore"),
)
LLM = ("-m", "promptly", "--functions", str(DRIVERS / "llm_functions.py"))

PROGRAMS = [
    Program(
        "codex",
        "Codex CLI",
        "@openai/codex",
        f"{BIN}/codex",
        "codex.md",
        command=("exec", "--dangerously-bypass-approvals-and-sandbox", "{prompt}"),
        resume=(
            "exec",
            "resume",
            "--last",
            "--dangerously-bypass-approvals-and-sandbox",
            "{prompt}",
        ),
        write=runs("exec_command", "cmd"),
        files={".codex/config.toml": ("toml", 0)},
        responses=True,
    ),
    Program(
        "claude",
        "Claude Code",
        "@anthropic-ai/claude-code",
        f"{NODE_MODULES}/@anthropic-ai/claude-code-linux-{MACHINE}/claude",
        "anthropic.md",
        command=("--print", "--permission-mode", "acceptEdits", "{prompt}"),
        resume=("--print", "--permission-mode", "acceptEdits", "--continue", "{prompt}"),
        write=writes("Write", "file_path", "content"),
        files={".claude/settings.json": ("json", 0)},
    ),
    Program(
        "opencode",
        "opencode",
        "opencode-ai",
        f"{NODE_MODULES}/opencode-linux-{MACHINE}/bin/opencode",
        "opencode.md",
        command=("run", "{prompt}"),
        resume=("run", "--continue", "{prompt}"),
        write=writes("write", "filePath", "content"),
        files={".config/opencode/opencode.json": ("json", 0)},
    ),
    Program(
        "qwen",
        "Qwen Code",
        "@qwen-code/qwen-code",
        f"{QUICK_NODE_MODULES}/.bin/qwen",
        "qwen-code.md",
        command=("--auth-type", "openai", "--approval-mode", "yolo", "{prompt}"),
        resume=("--auth-type", "openai", "--approval-mode", "yolo", "--continue", "{prompt}"),
        write=writes("write_file", "file_path", "content"),
        files={".qwen/settings.json": ("json", 0)},
        quick=True,
    ),
    Program(
        "pi",
        "pi",
        "@mariozechner/pi-coding-agent",
        f"{BIN}/pi",
        "pi.md",
        command=("--model", "promptly/default", "--print", "{prompt}"),
        resume=("--model", "promptly/default", "--continue", "--print", "{prompt}"),
        write=writes("write", "path", "content"),
        files={".pi/agent/models.json": ("json", 0)},
    ),
    Program(
        "continue",
        "Continue CLI",
        "@continuedev/cli",
        f"{BIN}/cn",
        "continue.md",
        command=(*CONTINUE, "--print", "{prompt}"),
        resume=(*CONTINUE, "--resume", "--print", "{prompt}"),
        write=writes("Write", "filepath", "content"),
        files={".continue/config.yaml": ("yaml", 0)},
    ),
    Program(
        "cline",
        "Cline CLI",
        "cline",
        f"{BIN}/cline",
        "cline.md",
        command=("{prompt}",),
        write=writes("editor", "path", "new_text"),
        setup="cline auth",
    ),
    Program(
        "aider",
        "aider",
        "aider-chat",
        ".venv-aider/bin/aider",
        "aider.md",
        command=(*AIDER, "--message", "{prompt}"),
        resume=(*AIDER, "--restore-chat-history", "--message", "{prompt}"),
        write=whole_file,
        files={".aider.model.metadata.json": ("json", 0)},
    ),
    Program(
        "llm",
        "llm",
        "llm",
        ".venv-agents/bin/llm",
        "llm.md",
        command=(*LLM, "{prompt}"),
        resume=(*LLM, "--continue", "{prompt}"),
        write=WRITE_FILE,
        files={".config/io.datasette.llm/extra-openai-models.yaml": ("yaml", 0)},
        setup="llm keys",
        quick=True,
    ),
    driver(
        "openai-agents",
        "openai-agents",
        "openai-agents",
        "openai-agents.md",
        "openai_agents.py",
    ),
    driver(
        "openai-agents-chat",
        "openai-agents, chat completions",
        "openai-agents",
        "openai-agents.md",
        "openai_agents.py",
        number=1,
        responses=False,
        quick=True,
    ),
    driver(
        "pydantic-ai-responses",
        "pydantic-ai, Responses",
        "pydantic-ai-slim",
        "pydantic-ai.md",
        "pydantic_ai_agent.py",
        number=1,
    ),
    driver(
        "pydantic-ai",
        "pydantic-ai",
        "pydantic-ai-slim",
        "pydantic-ai.md",
        "pydantic_ai_agent.py",
        responses=False,
        quick=True,
    ),
    driver(
        "langchain",
        "LangChain, Responses",
        "langchain-openai",
        "langchain.md",
        "langchain_responses.py",
        number=2,
        executable=".venv/bin/python",
    ),
    driver(
        "vercel",
        "Vercel AI SDK, `@ai-sdk/openai`",
        "@ai-sdk/openai",
        "vercel-ai-sdk.md",
        "vercel_openai.mjs",
        language="javascript",
        number=2,
        executable=NODE,
    ),
]
