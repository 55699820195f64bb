package archive

import (
	"bytes"
	"strings"
)

// scriptText is how much of a text is looked at for signs of a script.
const scriptText = 16 << 10

// byText knows scripts that Windows runs on a double click. What people write
// about scripts in a mail must not be one: so either the text begins like one,
// or there are two different signs of one language at the beginnings of lines.
func byText(t *Type, head []byte) {
	text, ok := plainText(head[:min(len(head), scriptText)])
	if !ok {
		return
	}
	lower := strings.ToLower(strings.TrimLeft(text, " \t\r\n"))
	for _, s := range []struct{ begin, program, media string }{
		{"#!", "script", "text/x-shellscript"},
		{"@echo off", "script", "application/x-bat"},
		{"windows registry editor", "reg", "text/x-ms-regedit"},
		{"regedit4", "reg", "text/x-ms-regedit"},
		{"[internetshortcut]", "url", "application/x-mswinurl"},
		{"[desktop entry]", "desktop", "application/x-desktop"},
		{"[autorun]", "autorun", "text/plain"},
		{"<scriptlet", "script", "text/scriptlet"},
		{"<pcsettings>", "settings", "application/x-ms-settings"},
		{"web\r\n1\r\n", "iqy", "application/x-iqy"},
		{"id;p", "sylk", "application/x-sylk"},
	} {
		if s.program == "sylk" && !strings.Contains(lower, "\nc;") {
			continue // a table of ids and prices
		}
		if strings.HasPrefix(lower, s.begin) {
			t.Program, t.Media = s.program, s.media
			return
		}
	}
	if strings.Contains(lower, "<hta:application") {
		t.Program, t.Media = "hta", "application/hta"
		return
	}
	if media := scriptBySigns(lower); media != "" {
		t.Program, t.Media = "script", media
	}
}

// scriptBySigns counts signs of each language.
func scriptBySigns(lower string) string {
	for _, lang := range []struct {
		media string
		signs []string
	}{
		{"text/javascript", []string{"new activexobject(", "wscript.", "var ", "function ", "eval(", ".run(", "fromcharcode("}},
		{"text/vbscript", []string{"createobject(", "on error resume next", "dim ", "set ", "wscript.", "execute(", "end sub", "end function"}},
		{"text/x-powershell", []string{"invoke-expression", "new-object ", "iex ", "iex(", "$env:", "start-process", "frombase64string(", "downloadstring(", "invoke-webrequest", "set-executionpolicy", "param("}},
		{"application/x-bat", []string{"@echo", "set ", "start ", "powershell ", "goto ", "if exist ", "cmd /c", "rem "}},
		{"text/x-wsf", []string{"<job", "<script language", "<package>"}},
	} {
		var hits, strong int
		for i, sign := range lang.signs {
			if at := strings.Index(lower, sign); at >= 0 && (i < 2 || lineStart(lower, sign)) {
				hits++
				if i < 2 {
					strong++
				}
			}
		}
		if strong > 0 && hits >= 2 && mostlyCode(lower) {
			return lang.media
		}
	}
	return ""
}

func lineStart(text, sign string) bool {
	return strings.HasPrefix(text, sign) || strings.Contains(text, "\n"+sign)
}

// mostlyCode: prose has long words and few of the characters that code has.
func mostlyCode(text string) bool {
	var marks int
	for i := range len(text) {
		if strings.IndexByte("(){}=;\"'$&<>[]|+%", text[i]) >= 0 {
			marks++
		}
	}
	return marks*25 >= len(text)
}

// plainText gives text in UTF-16 as ASCII too; it says no for what is no text.
func plainText(b []byte) (string, bool) {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if len(b) >= 4 && (b[0] == 0xff && b[1] == 0xfe || b[0] == 0xfe && b[1] == 0xff || b[1] == 0 && b[3] == 0) {
		b = bytes.ReplaceAll(bytes.TrimLeft(b, "\xff\xfe"), []byte{0}, nil)
	}
	return string(b), bytes.IndexByte(b, 0) < 0
}
