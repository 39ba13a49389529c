-- Drives the language server with Neovim's own client and prints what came back as JSON.
--
-- nvim --headless --clean -c 'luafile neovim.lua', with CORDON (the program) and FOLDER (holding
-- rules.cedar and hosts.toml) in the environment.

local folder = vim.env.FOLDER
local result = {}

local function fail(message)
  io.stdout:write(vim.json.encode({ error = message }) .. "\n")
  vim.cmd("cquit 1")
end

local function until_true(what, condition)
  if not vim.wait(60000, condition, 20) then
    fail("nothing came: " .. what)
  end
end

local function main()
  vim.cmd("edit " .. vim.fn.fnameescape(folder .. "/rules.cedar"))
  local buffer = vim.api.nvim_get_current_buf()
  local client = vim.lsp.start_client({
    name = "cordon",
    cmd = { vim.env.CORDON, "policy", "lsp", "--no-log" },
    root_dir = folder,
  })
  vim.lsp.buf_attach_client(buffer, client)

  local function diagnostics()
    local codes = {}
    for _, found in ipairs(vim.diagnostic.get(buffer)) do
      codes[#codes + 1] = { code = found.code, line = found.lnum, message = found.message }
    end
    return codes
  end

  -- 1. The mistake in the file as it was opened.
  until_true("diagnostics", function() return #diagnostics() > 0 end)
  result.before = diagnostics()

  local function ask(method, params)
    local answers, problem = vim.lsp.buf_request_sync(buffer, method, params, 60000)
    if problem then
      fail(method .. ": " .. problem)
    end
    return answers[client].result
  end

  -- 2. What stands under the cursor, and what could.
  local function at(needle)
    vim.fn.cursor(1, 1)
    if vim.fn.search(needle, "cW") == 0 then
      fail("not in the file: " .. needle)
    end
    return vim.lsp.util.make_position_params(0, "utf-16")
  end
  result.hover = ask("textDocument/hover", at("connect")).contents.value
  result.completion = vim.tbl_map(
    function(item) return item.label end,
    ask("textDocument/completion", at("ort == 443"))
  )
  result.definition = ask("textDocument/definition", at('forges") when')).range.start.line

  -- 3. The one fix there is, put in by the client.
  local place = at("Host::")
  local action = ask("textDocument/codeAction", {
    textDocument = place.textDocument,
    range = { start = place.position, ["end"] = place.position },
    context = { diagnostics = {} },
  })[1]
  vim.lsp.util.apply_workspace_edit(action.edit, "utf-16")
  until_true("a corrected file", function() return #diagnostics() == 0 end)
  result.after = diagnostics()

  -- 4. The layout.
  local edits = ask("textDocument/formatting", vim.lsp.util.make_formatting_params())
  vim.lsp.util.apply_text_edits(edits, buffer, "utf-16")
  result.formatted = table.concat(vim.api.nvim_buf_get_lines(buffer, 0, -1, true), "\n")

  vim.lsp.stop_client(client)
  until_true("the server's end", function()
    local running = vim.lsp.get_client_by_id(client)
    return running == nil or running.is_stopped()
  end)
  io.stdout:write(vim.json.encode(result) .. "\n")
  vim.cmd("qall!")
end

-- Whatever goes wrong is said, and the editor ends.
local fine, problem = pcall(main)
if not fine then
  fail(tostring(problem))
end
