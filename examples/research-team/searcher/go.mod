module research-searcher

go 1.22
