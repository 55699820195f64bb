package clamav

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gatepost/internal/testkit"
)

// archives has one file in archives of all kinds that the programs here make,
// by the name of the archive.
func archives(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "invoice.com"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	var tarred bytes.Buffer
	w := tar.NewWriter(&tarred)
	if err := w.WriteHeader(&tar.Header{Name: "invoice.com", Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(tarred.Bytes())
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	inner := testkit.Zip("invoice.com", content)
	all := map[string][]byte{
		"a.zip": inner, "a.tar": tarred.Bytes(), "a.tar.gz": zipped.Bytes(), "nested.zip": testkit.Zip("a.zip", inner),
	}
	for name, command := range map[string][]string{
		"a.7z":  {testkit.Program(t, "7z", "p7zip-full"), "a", "-bd", "a.7z", "invoice.com"},
		"a.xz":  {testkit.Program(t, "xz", "xz-utils"), "-kc", "invoice.com"},
		"a.zst": {testkit.Program(t, "zstd", "zstd"), "-qc", "invoice.com"},
		"a.bz2": {testkit.Program(t, "bzip2", "bzip2"), "-kc", "invoice.com"},
	} {
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", command, err)
		}
		if made, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			out = made
		}
		all[name] = out
	}
	return all
}
