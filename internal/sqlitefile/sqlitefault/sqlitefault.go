// Package sqlitefault makes commits to SQLite files fail, for tests of the stores. Import the
// package before you open the files.
package sqlitefault

import (
	"net/url"
	"path/filepath"
	"sync"

	"modernc.org/sqlite"
)

// refused has the absolute paths of the files whose commits fail.
var refused sync.Map

func init() {
	sqlite.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, dsn string) error {
		name, err := url.Parse(dsn)
		if err != nil {
			return err
		}
		conn.(sqlite.HookRegisterer).RegisterCommitHook(func() int32 {
			if _, ok := refused.Load(name.Path); ok {
				return 1
			}
			return 0
		})
		return nil
	})
}

// RefuseCommits makes each COMMIT of a change to the file fail, until allow is called. A
// commit that fails rolls its transaction back.
func RefuseCommits(path string) (allow func()) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	name := filepath.ToSlash(absolute)
	refused.Store(name, true)
	return func() { refused.Delete(name) }
}
