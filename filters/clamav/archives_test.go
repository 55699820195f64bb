package clamav

import (
	"bytes"
	"compress/gzip"
	"testing"

	"gatepost/internal/testkit"
)

// archives has one file in archives of all kinds that the programs here make,
// by the name of the archive.
func archives(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	const name = "invoice.com"
	tarred := testkit.Tar(name, content)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(tarred)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	inner := testkit.Zip(name, content)
	return map[string][]byte{
		"a.zip": inner, "a.tar": tarred, "a.tar.gz": zipped.Bytes(), "nested.zip": testkit.Zip("a.zip", inner),
		"a.7z":  testkit.Pack(t, "p7zip-full", name, content, "a.7z", "7z", "a", "-bd", "a.7z", name),
		"a.xz":  testkit.Pack(t, "xz-utils", name, content, "", "xz", "-kc", name),
		"a.zst": testkit.Pack(t, "zstd", name, content, "", "zstd", "-qc", name),
		"a.bz2": testkit.Pack(t, "bzip2", name, content, "", "bzip2", "-kc", name),
	}
}
